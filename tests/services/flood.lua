-- What wrk asks and counts: POST of the file BODY with the key KEY; ids of what was answered go to ANSWERED.
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init()
  wrk.method, wrk.body = "POST", io.open(os.getenv("BODY")):read("*a")
  wrk.headers["Content-Type"], wrk.headers["X-API-Key"] = "application/json", os.getenv("KEY")
  answered, refused, unclear, list = 0, 0, 0, io.open(os.getenv("ANSWERED"), "a")
end

function response(status, headers, body)
  local id = string.match(body, '"request_id":"(%x+)"')
  if status == 200 and id then
    answered = answered + 1
    list:write(id, "\n")
    list:flush()
  elseif status == 503 and tonumber(headers["retry-after"]) and string.find(body, "The server is busy", 1, true) then
    refused = refused + 1
  else
    unclear = unclear + 1
    print("unclear: " .. status .. " " .. body)
  end
end

function done(summary)
  local counts = {answered = 0, refused = 0, unclear = 0}
  for _, thread in ipairs(threads) do
    for name, count in pairs(counts) do
      counts[name] = count + thread:get(name)
    end
  end
  local lost = summary.errors
  print(string.format('{"answered": %d, "refused": %d, "unclear": %d, "lost": %d, "late": %d, "seconds": %f}',
    counts.answered, counts.refused, counts.unclear, lost.connect + lost.read + lost.write, lost.timeout,
    summary.duration / 1e6))
end
