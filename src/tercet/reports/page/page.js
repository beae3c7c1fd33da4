"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const themed = ["ink", "up", "down"];

  // Traces may name a colour of the page; axes and texts always use the page's colours.
  const inColours = (trace) => {
    const copy = structuredClone(trace);
    for (const part of [copy.line, copy.marker]) {
      if (part && themed.includes(part.color)) part.color = colour(part.color);
    }
    return copy;
  };
  const layoutOf = (layout) => {
    const copy = structuredClone(layout);
    const font = { family: "system-ui, sans-serif", size: 12, color: colour("muted") };
    for (const axis of ["xaxis", "yaxis"]) {
      Object.assign(copy[axis], {
        gridcolor: colour("line"),
        linecolor: colour("muted"),
        zerolinecolor: colour("muted"),
        tickcolor: colour("line"),
        tickfont: font,
      });
      copy[axis].title.font = font;
    }
    return Object.assign(copy, {
      font: { ...font, color: colour("ink") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("muted"), align: "left" },
      autosize: true,
    });
  };

  const config = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
  const holders = [...document.querySelectorAll("[data-plot]")];
  const visible = new Map();
  const draw = () => {
    for (const holder of holders) {
      const { data, layout } = plots[holder.dataset.plot];
      const traces = data.map(inColours);
      const shown = visible.get(holder);
      if (shown !== undefined) {
        traces.forEach((trace, i) => { trace.visible = Math.floor(i / 2) === shown; });
      }
      Plotly.react(holder, traces, layoutOf(layout), config);
    }
  };
  for (const select of document.querySelectorAll("select[data-for]")) {
    const holder = holders.find((h) => h.dataset.plot === select.dataset.for);
    const choose = () => { visible.set(holder, select.selectedIndex); };
    choose();
    select.addEventListener("change", () => { choose(); draw(); });
  }
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
