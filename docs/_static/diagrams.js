// Draws the Mermaid diagrams of a page, and again when the reader changes the theme.
// The library comes with the site, and only to pages that have a diagram.
(() => {
  const here = document.currentScript.src;

  const isDark = () => {
    const theme = document.body.dataset.theme;
    if (theme === "dark" || theme === "light") return theme === "dark";
    return window.matchMedia("(prefers-color-scheme: dark)").matches;
  };

  const draw = async (diagrams) => {
    window.mermaid.initialize({
      startOnLoad: false,
      theme: isDark() ? "dark" : "neutral",
      fontFamily: getComputedStyle(document.body).fontFamily,
    });
    for (const diagram of diagrams) {
      diagram.removeAttribute("data-processed");
      diagram.textContent = diagram.source;
    }
    await window.mermaid.run({ nodes: diagrams });
  };

  document.addEventListener("DOMContentLoaded", () => {
    const diagrams = [...document.querySelectorAll("pre.mermaid")];
    if (!diagrams.length) return;
    for (const diagram of diagrams) diagram.source = diagram.textContent;
    const library = document.createElement("script");
    library.src = new URL("mermaid.js", here).href;
    library.onload = () => {
      let drawn = isDark();
      const redraw = () => {
        if (isDark() === drawn) return;
        drawn = isDark();
        draw(diagrams);
      };
      draw(diagrams);
      new MutationObserver(redraw).observe(document.body, {
        attributes: true,
        attributeFilter: ["data-theme"],
      });
      window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    };
    document.head.append(library);
  });
})();
