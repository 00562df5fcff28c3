// Draws the report's pictures in the colours of the reader's theme, those in closed cards once they are opened.
"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function config() {
    const [ink, soft, line] = [css("--ink"), css("--soft"), css("--line")];
    const font = getComputedStyle(document.body).fontFamily;
    return {
      font,
      view: { stroke: null },
      axis: { labelColor: soft, titleColor: soft, titleFontWeight: "normal", gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12 },
      axisY: { domain: false, ticks: false, labelColor: ink, grid: false, labelPadding: 8 },
      legend: { labelColor: ink, titleColor: soft, labelFontSize: 12, symbolType: "square" },
      text: { fill: ink, fontSize: 12 },
    };
  }

  async function draw(figure) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const renderer = figure.classList.contains("map") ? "canvas" : "svg";
    // "ast" evaluates expressions without eval, which the page's policy forbids.
    await vegaEmbed(figure.querySelector(".canvas"), spec, { actions: false, ast: true, renderer, config: config() });
    figure.dataset.drawn = "yes";
  }

  async function drawOpen(again = false) {
    for (const figure of document.querySelectorAll("figure.plot")) {
      const card = figure.closest("details.card");
      if (!figure.querySelector("script") || (card && !card.open)) continue;
      if (!again && figure.dataset.drawn) continue;
      try {
        await draw(figure);
      } catch (error) {
        figure.querySelector(".canvas").textContent = `This picture could not be drawn: ${error.message}`;
      }
    }
  }

  for (const part of document.querySelectorAll("[data-share]")) part.style.width = `${part.dataset.share}%`;
  for (const card of document.querySelectorAll("details.card")) card.addEventListener("toggle", () => drawOpen());
  dark.addEventListener("change", () => drawOpen(true));
  window.addEventListener("beforeprint", () => {
    for (const card of document.querySelectorAll("details.card")) card.open = true;
  });
  drawOpen();
})();
