/** A slider with marked stops and a number field beside it: two ways to set one whole number. */

import { el } from "./dom.js";

const NEAR = 0.012; // of the range: a pointer that comes so near to a stop is taken to mean it

export class Slider {
  /** `name` is the ids' beginning; `say(value)` reads a value out; `changed(isTyped)` hears of every valid change. */
  constructor(name, { say, changed }) {
    this.slider = document.getElementById(`${name}-slider`);
    this.number = document.getElementById(name);
    this.ticks = document.getElementById(`${name}-ticks`);
    this.error = document.getElementById(`${name}-error`);
    this.say = say;
    this.changed = changed;
    this.stops = [];
    this.dragging = false;
    this.slider.addEventListener("pointerdown", () => { this.dragging = true; });
    addEventListener("pointerup", () => { this.dragging = false; });
    addEventListener("pointercancel", () => { this.dragging = false; });
    this.slider.addEventListener("input", () => this.moved());
    this.slider.addEventListener("keydown", (event) => this.keyed(event));
    this.number.addEventListener("input", () => this.typed());
    this.number.addEventListener("blur", () => { if (this.error.textContent) this.value = this.last; });
    new ResizeObserver(() => this.thinOut()).observe(this.ticks);
  }

  /** The numbers that there are, and the stops among them; the slider itself may end before `most`. */
  bounds({ least, most, reach = most, stops }) {
    Object.assign(this, { least, most, stops });
    [this.slider.min, this.slider.max] = [least, reach];
    [this.number.min, this.number.max] = [least, most];
    this.ticks.replaceChildren(
      ...stops.map((stop) => {
        const tick = el("button", { type: "button", tabindex: "-1", class: "tick" }, el("span", {}, String(stop)));
        tick.style.setProperty("--at", (stop - least) / (reach - least || 1));
        tick.addEventListener("click", () => this.choose(stop));
        return tick;
      }),
    );
    this.thinOut();
  }

  get value() {
    return this.last;
  }

  set value(value) {
    this.last = value;
    this.number.value = value;
    this.slider.value = value;
    this.complain("");
    this.drawn();
  }

  /** Set the value as a person does. */
  choose(value) {
    if (value === this.last) return;
    this.value = value;
    this.changed(false);
  }

  complain(message) {
    this.error.textContent = message;
    if (message) this.number.setAttribute("aria-invalid", "true");
    else this.number.removeAttribute("aria-invalid");
  }

  moved() {
    let value = Number(this.slider.value);
    if (this.dragging) {
      const near = NEAR * (this.slider.max - this.slider.min);
      const stop = this.stops.find((each) => Math.abs(each - value) <= near);
      if (stop !== undefined) value = stop;
    }
    this.choose(value);
    this.slider.value = value;
    this.drawn();
  }

  keyed(event) {
    const up = this.stops.find((stop) => stop > this.last) ?? this.last;
    const down = this.stops.findLast((stop) => stop < this.last) ?? this.least;
    const target = { PageUp: up, PageDown: down }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.choose(target);
  }

  typed() {
    const text = this.number.value.trim();
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < this.least || value > this.most) {
      this.complain(`a whole number from ${this.least} to ${this.most}`);
      return;
    }
    this.complain("");
    if (value === this.last) return;
    this.last = value;
    this.slider.value = value;
    this.drawn();
    this.changed(true);
  }

  drawn() {
    const { min, max, value } = this.slider;
    this.slider.style.setProperty("--at", (value - min) / (max - min || 1));
    this.slider.setAttribute("aria-valuetext", this.say(this.last));
    [...this.ticks.children].forEach((tick, i) => tick.classList.toggle("chosen", this.stops[i] === this.last));
  }

  /** Leave out labels that would touch, the last one never. */
  thinOut() {
    let edge = Infinity;
    for (const tick of [...this.ticks.children].reverse()) {
      const { left, right } = tick.firstChild.getBoundingClientRect();
      tick.classList.toggle("bare", right > edge - 2);
      if (right <= edge - 2) edge = left;
    }
  }
}
