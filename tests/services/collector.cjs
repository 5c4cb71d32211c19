// A collector that speaks Fluentd's forward protocol: node collector.cjs MODULE PORT FILE [KEY [CERTIFICATE PRIVATE]]
// Each record becomes a line of FILE before it is acknowledged, as with a buffer on disk.
const fs = require("fs");
const [module_, port, file, key, certificate, private_] = process.argv.slice(2);
const { FluentServer } = require(module_);

const security = key ? { sharedKey: key, serverHostname: "collector" } : undefined;
const tlsOptions = certificate ? { cert: fs.readFileSync(certificate), key: fs.readFileSync(private_) } : undefined;
const server = new FluentServer({ listenOptions: { port: Number(port), host: "127.0.0.1" }, security, tlsOptions });
server.on("entry", (tag, time, record) => fs.appendFileSync(file, JSON.stringify({ tag, time, record }) + "\n"));
// The package acknowledges first and hands the records over then; here the acknowledgement waits for them.
server.server.prependListener(tlsOptions ? "secureConnection" : "connection", (socket) => {
  const write = socket.write.bind(socket);
  socket.write = (data) => setImmediate(() => write(data));
});
process.on("SIGTERM", () => process.exit(0));
server.listen().then(() => console.log("listening"));
