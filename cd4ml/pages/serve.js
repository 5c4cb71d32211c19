"use strict";
(() => {
  const form = document.getElementById("ask"), told = document.getElementById("answer");
  const key = document.getElementById("key"), note = document.getElementById("models-told");
  const make = (tag, text, name) => {
    const found = document.createElement(tag);
    found.textContent = text;
    if (name) found.className = name;
    return found;
  };
  const headers = (more) => key && key.value ? {...more, "X-API-Key": key.value} : more;

  const readField = (field) => {
    const text = field.value.trim(), kind = field.dataset.kind;
    if (text === "" && (kind !== "string" || "nullable" in field.dataset)) return null;
    if (kind === "boolean") return text === "true";
    const number = Number(text);
    return (kind === "number" || kind === "integer") && Number.isFinite(number) ? number : text;
  };

  const showFaults = (faults) => {
    for (const field of form.querySelectorAll("[name]")) {
      const spot = field.parentElement.querySelector(".fault");
      const words = faults.filter((one) => one.field === field.name).map((one) => `Expected ${one.expected}, got ${one.got}.`);
      spot.textContent = words.join(" ");
      spot.hidden = !words.length;
      field.setAttribute("aria-invalid", String(words.length > 0));
    }
  };

  const showAnswer = (answer) => {
    const one = answer.predictions[0], shares = Object.entries(one).filter(([name]) => name.startsWith("probability_"));
    const value = typeof one.prediction === "number" ? Number(one.prediction.toPrecision(6)) : one.prediction;
    const parts = [make("p", `${form.dataset.target}: ${value}`, "prediction")];
    const bars = "probability" in one ? [[`probability of ${form.dataset.positive}`, one.probability]] : shares;
    for (const [name, share] of bars) {
      const line = make("p", `${name.replace(/^probability_/, "")} ${(100 * share).toFixed(1)} % `, "share");
      const meter = document.createElement("meter");
      meter.value = share;
      meter.setAttribute("aria-label", name);
      line.append(meter);
      parts.push(line);
    }
    parts.push(make("p", `Release ${answer.release} · prediction ${one.prediction_id}`, "note"));
    told.replaceChildren(...parts);
  };

  const ask = async (event) => {
    event.preventDefault();
    const row = Object.fromEntries([...form.querySelectorAll("[name]")].map((field) => [field.name, readField(field)]));
    try {
      const reply = await fetch("predict", {method: "POST", body: JSON.stringify({rows: [row]}),
        headers: headers({"Content-Type": "application/json"})});
      const answer = await reply.json();
      showFaults(answer.violations || []);
      if (reply.ok) showAnswer(answer);
      else told.replaceChildren(make("p", `${answer.what}. ${answer.fix || ""}`, "refusal"));
    } catch {
      told.replaceChildren(make("p", "The server does not answer.", "refusal"));
    }
  };

  const openReport = async (event) => {
    if (!key || !key.value) return;
    event.preventDefault();  // a link cannot carry the key
    const reply = await fetch(event.target.href, {headers: headers({})});
    window.open(URL.createObjectURL(await reply.blob()));
  };

  const listModels = async () => {
    const reply = await fetch("models", {headers: headers({})}), answer = await reply.json();
    const table = document.getElementById("models");
    table.hidden = !reply.ok || !answer.models.length;
    note.textContent = reply.ok ? (answer.models.length ? "" : "There is none yet.") : reply.status === 401
      ? "Give a key to see them." : `${answer.what}.`;
    if (!reply.ok) return;
    table.tBodies[0].replaceChildren(...answer.models.map((one) => {
      const line = document.createElement("tr"), link = make("a", "report"), cell = document.createElement("td");
      const head = make("th", `${one.release}${one.serves ? ", it answers" : ""}`);
      head.scope = "row";
      link.href = one.report.slice(1);
      link.addEventListener("click", openReport);
      cell.append(link);
      line.append(head, make("td", one.decision, one.decision), make("td", one.created.slice(0, 10)), cell);
      return line;
    }));
  };

  if (form) form.addEventListener("submit", ask);
  if (key) key.addEventListener("change", listModels);
  listModels();
})();
