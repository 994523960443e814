// Renews the figures every few seconds. Without this file the page is complete, and old.
"use strict";
(() => {
  const page = document.getElementById("cachebridge");
  if (!page || !page.dataset.state) return;
  const pause = document.getElementById("cb-pause");
  const silence = document.getElementById("cb-silence");
  const every = 1000 * Number(page.dataset.every);
  let timer = 0;
  let paused = false;

  // Put new content into a part; focus and the scrolled place of its tables stay.
  const renew = (part, html) => {
    if (part.cbHtml === html) return;
    part.cbHtml = html;
    const focused = part.contains(document.activeElement) && document.activeElement.id;
    const scrolled = [...part.querySelectorAll(".cb-scroll")].map((each) => [each.id, each.scrollLeft]);
    part.innerHTML = html;
    for (const [id, left] of scrolled) {
      const table = document.getElementById(id);
      if (table) table.scrollLeft = left;
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const say = (text) => {
    silence.textContent = text;
    silence.hidden = !text;
  };

  const ask = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch(page.dataset.state, {
        headers: { Accept: "application/json" },
        credentials: "same-origin",
        redirect: "error",
        cache: "no-store",
        signal: AbortSignal.timeout(2 * every),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const { parts } = await answer.json();
      for (const [id, html] of Object.entries(parts)) {
        const part = document.getElementById(id);
        if (part) renew(part, html);
      }
      say("");
    } catch {
      say("The site does not answer, or you are logged out: the figures are old.");
    }
    if (!paused && !document.hidden) timer = setTimeout(ask, every);
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    clearTimeout(timer);
    if (!paused) ask();
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden && !paused) ask();
  });
  timer = setTimeout(ask, every);
})();
