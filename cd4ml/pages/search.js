"use strict";
(() => {
  const box = document.getElementById("search"), input = box.querySelector("input");
  const list = box.querySelector("ol"), told = box.querySelector("[role=status]"), most = 20;
  const index = JSON.parse(document.getElementById("search-index").textContent);
  const entries = index.entries.map(([title, page, words]) =>
    ({title, page, text: `${title} ${words.map((i) => index.words[i]).join(" ")}`.toLowerCase(), words}));

  const show = () => {
    const asked = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = asked.length ? entries.filter((one) => asked.every((word) => one.text.includes(word))) : [];
    list.replaceChildren(...found.slice(0, most).map((one) => {
      const item = document.createElement("li"), link = document.createElement("a"), why = document.createElement("small");
      link.href = box.dataset.home + one.page;
      link.textContent = one.title;
      const hits = one.words.map((i) => index.words[i]).filter((word) => asked.some((part) => word.toLowerCase().includes(part)));
      why.textContent = hits.slice(0, 3).join(" · ").slice(0, 120);
      item.append(link, " ", why);
      return item;
    }));
    const more = found.length > most ? `, the first ${most} are shown` : "";
    told.textContent = asked.length ? `${found.length} found${more}` : "";
  };

  box.hidden = false;
  input.addEventListener("input", show);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select") || event.target.isContentEditable;
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
    } else if (event.key === "Escape" && box.contains(event.target)) {
      input.value = "";
      show();
      input.blur();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && box.contains(event.target)) {
      const stops = [input, ...list.querySelectorAll("a")];
      const next = stops[stops.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
      if (next) {
        event.preventDefault();
        next.focus();
      }
    }
  });
  const enter = () => location.hash === "#search" && input.focus();
  window.addEventListener("load", () => setTimeout(enter));  // the browser goes to the anchor first
  window.addEventListener("hashchange", enter);
  show();
})();
