// Live figures: asks the server each second and writes what it says into the page.
// Without it the page shows the figures of its own moment.
"use strict";

const live = document.getElementById("live");
const texts = live.querySelectorAll("[data-figure]");
const bars = live.querySelectorAll("[data-value]");
const buy = live.querySelector("form.buy button");

function show(figures) {
  live.dataset.state = figures.state;
  for (const place of texts) {
    place.textContent = figures[place.dataset.figure] ?? "unknown";
  }
  for (const bar of bars) {
    bar.value = figures[bar.dataset.value] ?? 0;
  }
  if (buy) {
    buy.disabled = figures.state !== "open";
  }
}

async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch(live.dataset.figures, { cache: "no-store" });
      if (!answer.ok) {
        throw new Error(`status ${answer.status}`);
      }
      show(await answer.json());
      live.classList.remove("late");
    } catch {
      live.classList.add("late");
    }
    live.classList.add("live");
  }
  setTimeout(look, 1000);
}

look();
