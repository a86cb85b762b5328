// Calls as they end. What is told is set as text, never as markup.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const MOST_ROWS = 200;
  const TELL_MS = 3000;
  const FIGURES = new Set([4, 5, 6, 7]);
  const body = document.getElementById("rows");
  const status = document.getElementById("status");
  const button = document.getElementById("pause");
  const held = [];
  let isPaused = false;
  let source = null;
  let news = 0;

  function link(text, address, name) {
    const made = document.createElement(address ? "a" : "span");
    if (address) made.href = address;
    if (name) made.className = name;
    made.textContent = text;
    return made;
  }

  function cell(text, number, told) {
    const made = document.createElement(number ? "td" : "th");
    if (number === 0) {
      made.scope = "row";
      made.className = "at";
      made.append(link(text, told.link));
    } else if (number === 1) {
      made.append(link(text, null, `chip ${told.tone}`));
    } else {
      made.textContent = text;
      if (FIGURES.has(number)) made.className = "figure";
    }
    return made;
  }

  function add(told) {
    const row = document.createElement("tr");
    row.dataset.id = told.id;
    row.className = "new";
    row.append(...told.cells.map((text, number) => cell(text, number, told)));
    const tags = document.createElement("td");
    tags.className = "tags";
    for (const tag of told.tags) tags.append(link(tag.text, tag.link, "tag"), " ");
    if (told.more_tags) tags.append(link(`and ${told.more_tags} more`, null, "tag"));
    row.append(tags);
    body.prepend(row); // of refusals that are alike, as many as have come to those of another line
    while (body.rows.length > MOST_ROWS) body.lastElementChild.remove();
    news += 1;
  }

  function say(text) {
    if (status.textContent !== text) status.textContent = text;
  }

  function sayWhether() {
    status.dataset.live = String(!isPaused);
    say(isPaused ? "Paused. Calls are kept for when it goes on." : "Following. New calls appear at the top.");
  }

  function begin() {
    source = new EventSource(`/live.events${location.search}`);
    source.addEventListener("open", sayWhether);
    source.addEventListener("call", (event) => {
      const told = JSON.parse(event.data);
      if (!isPaused) add(told);
      else if (held.push(told) > MOST_ROWS) held.shift(); // the table has no room for more
    });
    source.addEventListener("missed", (event) => say(`${JSON.parse(event.data).count} calls were too many to show.`));
    source.addEventListener("trouble", (event) => say(JSON.parse(event.data).text));
    source.addEventListener("error", () => {
      status.dataset.live = "false";
      const isOver = source.readyState === EventSource.CLOSED;
      say(isOver ? "The server follows for as many as it can. Reload to see what is new." : "The connection is lost; trying again.");
    });
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.textContent = isPaused ? "Go on" : "Pause";
    if (source.readyState === EventSource.CLOSED) begin();
    else sayWhether();
    if (!isPaused) held.splice(0).forEach(add);
  });
  // So many at a time that they can be heard: a screen reader is not read every line.
  setInterval(() => {
    if (news) say(`${news} new ${news === 1 ? "call" : "calls"} since ${new Date().toLocaleTimeString()}.`);
    news = 0;
  }, TELL_MS);
  addEventListener("pagehide", () => source.close());
  begin();
});
