// Charts of what the page's JSON has. Names are set as text, never as markup.
"use strict";
(() => {
  const HEIGHT = 240;
  const MARK_PX = 72;
  const POLL_MS = 50;
  const RETRY_MS = 3000;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function axis(more) {
    const grid = colour("--line");
    return {
      stroke: colour("--soft"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: grid, width: 1 },
      ticks: { stroke: grid, width: 1 },
      ...more,
    };
  }

  function dollars(value) {
    if (value === 0) return "$0";
    const digits = value >= 10 ? 0 : value >= 0.1 ? 2 : 4;
    return `$${value.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: digits })}`;
  }

  function exact(value) {
    return `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 6 })}`;
  }

  // Times as the server names them: in the zone of the budgets, not of the browser.
  function timeAxis(told) {
    const isLong = told.starts.length > 24;
    const show = (name) => (told.unit === "hour" && !isLong ? name.slice(11, 16) : name.slice(5, 10));
    // Days begin where the server's do.
    const isMark = (name) => !isLong || told.unit === "day" || name.includes(" 00:00");
    return axis({
      size: 32,
      splits: () => {
        const marks = told.times.map((_, place) => place).filter((place) => isMark(told.times[place]));
        const step = Math.max(1, Math.ceil((marks.length * MARK_PX) / plotWidth));
        return marks.filter((_, number) => number % step === 0);
      },
      values: (_, places) => places.map((place) => show(told.times[place] || "")),
      space: 1,
    });
  }

  let plotWidth = 600;

  function plan(kind, told) {
    return kind === "spend" ? spendPlan(told) : cachePlan(told);
  }

  // Bars on one another: each is drawn from 0 to its own upper end, the tallest first.
  function spendPlan(told) {
    const values = told.series.map((each) => each.costs.map(Number));
    const upTo = values.map((_, number) => told.starts.map((__, place) =>
      values.slice(0, number + 1).reduce((sum, each) => sum + each[place], 0)));
    const colours = told.series.map((each, number) => colour(each.is_others ? "--series-others" : `--series-${number + 1}`));
    const order = upTo.map((_, number) => number).reverse();
    const bars = uPlot.paths.bars({ size: [0.76, 64], radius: 0 });
    return {
      data: [told.starts.map((_, place) => place), ...order.map((number) => upTo[number])],
      series: order.map((number) => ({ fill: colours[number], stroke: colours[number], width: 0, paths: bars, points: { show: false } })),
      scale: { range: (_, __, high) => [0, high > 0 ? high * 1.05 : 1] },
      pad: 0.5,
      axis: axis({ size: 64, values: (_, ticks) => ticks.map(dollars) }),
      names: told.series.map((each) => each.name || "none"),
      colours,
      figures: (place) => values.map((each) => exact(each[place])),
    };
  }

  function cachePlan(told) {
    const shares = told.over_time.map((each) => (each.hit_share === null ? null : each.hit_share * 100));
    const stroke = colour("--series-1");
    return {
      data: [told.starts.map((_, place) => place), shares],
      series: [{ stroke, fill: `${stroke}22`, width: 2, spanGaps: false, points: { show: shares.length <= 48, size: 5, fill: stroke } }],
      scale: { range: [0, 100] },
      pad: 0.5,
      axis: axis({ size: 56, values: (_, ticks) => ticks.map((each) => `${each} %`) }),
      names: ["read from caches"],
      colours: [stroke],
      figures: (place) => [shares[place] === null ? "no input" : `${shares[place].toFixed(1)} %`],
    };
  }

  function drawLegend(list, made, told, place) {
    const items = made.names.map((name, number) => {
      const item = document.createElement("li");
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      swatch.setAttribute("viewBox", "0 0 10 10");
      swatch.setAttribute("class", "dot");
      for (const [key, value] of [["width", 10], ["height", 10], ["rx", 2], ["fill", made.colours[number]]]) box.setAttribute(key, value);
      swatch.append(box);
      const figure = place === null ? "" : ` ${made.figures(place)[number]}`;
      item.append(swatch, spelled(name));
      if (figure) {
        const strong = document.createElement("strong");
        strong.textContent = figure;
        item.append(strong);
      }
      return item;
    });
    if (place !== null) {
      const when = document.createElement("li");
      when.className = "when";
      when.textContent = told.times[place];
      items.unshift(when);
    }
    list.replaceChildren(...items);
  }

  // As the server spells what turns the direction of writing, or shows as nothing.
  function spelled(text) {
    const cut = text.length > 40 ? `${text.slice(0, 39)}…` : text;
    return cut.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (each) => `\\u${each.codePointAt(0).toString(16).padStart(4, "0")}`);
  }

  function draw(figure, told) {
    const holder = figure.querySelector(".plot");
    const legend = figure.querySelector(".legend");
    if (figure.plot) figure.plot.destroy();
    const made = plan(figure.dataset.chart, told);
    const last = told.starts.length - 1;
    plotWidth = holder.clientWidth;
    figure.plot = new uPlot({
      width: holder.clientWidth,
      height: HEIGHT,
      padding: [12, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { setScale: false, x: false, y: false } },
      scales: { x: { time: false, range: [-made.pad, last + made.pad] }, y: made.scale },
      axes: [timeAxis(told), made.axis],
      series: [{}, ...made.series],
      hooks: { setCursor: [(plot) => drawLegend(legend, made, told, plot.cursor.idx ?? null)] },
    }, made.data, holder);
    drawLegend(legend, made, told, null);
    figure.dataset.drawn = "true";
  }

  async function show(figure) {
    const answer = await fetch(figure.dataset.source, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const told = await answer.json();
    draw(figure, told);
    figure.told = told;
    const progress = document.getElementById("progress");
    if (!progress) return;
    // The page was answered before all was read: ask on, and show all of it when it is.
    if (told.is_whole) location.reload();
    else {
      progress.textContent = `Reading: ${Math.floor(told.read_share * 100)} % of the period.`;
      setTimeout(() => follow(figure), POLL_MS);
    }
  }

  function follow(figure) {
    show(figure).catch(() => setTimeout(() => follow(figure), RETRY_MS));
  }

  document.addEventListener("DOMContentLoaded", () => {
    const figures = [...document.querySelectorAll("figure[data-chart]")];
    const again = () => figures.forEach((figure) => figure.told && draw(figure, figure.told));
    let width = innerWidth;
    let waiting = 0;
    addEventListener("resize", () => {
      if (innerWidth === width) return;
      width = innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(again, 100);
    });
    document.addEventListener("themechange", again);
    figures.forEach(follow);
  });
})();
