// Charts by uPlot: the flow of records, and the offsets of one partition. `uPlot` is global.

import { colour } from "./dom.js";

/* Broker colours for lines; each also has a dash of its own. */
const LINES = ["#3b5bdb", "#0a8a66", "#c2700a", "#ae3ec9", "#0b7ea8", "#d6336c", "#6a8f00", "#7950f2", "#a0522d", "#52616f"];
const LINES_DARK = ["#8fa5ff", "#4ecfa5", "#f2b05e", "#e08cf5", "#62c8ee", "#ff8fb4", "#b5d95a", "#b9a1ff", "#dda47f", "#aab7c4"];
const DASHES = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 2]];
const dark = matchMedia("(prefers-color-scheme: dark)");

const axes = (size) => {
  const common = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return [{ ...common, space: 80, values: (_, ticks) => ticks.map((at) => CLOCK(new Date(at * 1000))) }, { ...common, size, space: 28, values: (_, ticks) => ticks.map(short) }];
};

function short(number) {
  if (number >= 1e6) return `${+(number / 1e6).toFixed(2)}M`;
  if (number >= 1e4) return `${+(number / 1e3).toFixed(1)}k`;
  return String(+number.toFixed(1));
}

const CLOCK = uPlot.fmtDate("{HH}:{mm}:{ss}");

/** A chart that fills its place and is made anew when colours or series change. */
class Chart {
  constructor(place, height, options) {
    Object.assign(this, { place, height, options, shape: "" });
    new ResizeObserver(() => this.plot?.setSize({ width: place.clientWidth, height })).observe(place);
  }

  draw(data, shape) {
    const full = `${shape}/${dark.matches}`;
    if (full !== this.shape || !this.plot) {
      this.plot?.destroy();
      this.shape = full;
      this.plot = new uPlot({ width: this.place.clientWidth || 300, height: this.height, ...this.options() }, data, this.place);
    } else {
      this.plot.setData(data);
    }
  }
}

export function flowChart(place) {
  return new Chart(place, 130, () => ({
    legend: { show: false },
    cursor: { y: false },
    scales: { y: { range: (_, min, max) => [0, Math.max(max * 1.1, 10)] } },
    axes: axes(44),
    series: [{},
      { label: "records/s", stroke: colour("--leader"), fill: `${colour("--leader")}22`, width: 2, points: { show: false } }],
  }));
}

/** `brokers`: [{id, name}] in the order of the series; `marks()`: [{at, colour}] upright lines. */
export function offsetsChart(place, marks) {
  const chart = new Chart(place, 240, () => ({
    legend: { live: false },
    cursor: { y: false },
    axes: axes(54),
    scales: { x: { time: true } },
    hooks: { draw: [(plot) => drawMarks(plot, marks())] },
    series: [
      { label: "time" },
      ...chart.brokers.map((broker) => ({
        label: `${broker.name} log end`, stroke: (dark.matches ? LINES_DARK : LINES)[(broker.id - 1) % LINES.length],
        dash: DASHES[(broker.id - 1) % DASHES.length], width: 2, points: { show: false }, spanGaps: true,
      })),
      { label: "high watermark", stroke: colour("--ink"), width: 1.5, dash: [3, 3], points: { show: false } },
    ],
  }));
  chart.brokers = [];
  return chart;
}

function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const mark of marks) {
    const x = plot.valToPos(mark.at / 1000, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour(mark.colour);
    ctx.lineWidth = mark.wide ? 3 : 1;
    ctx.setLineDash(mark.wide ? [] : [2, 4]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
