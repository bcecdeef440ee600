/** A slider over marked stops, and a number field beside it that takes any whole number. */

import { el } from "./dom.js";

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
    this.slider.addEventListener("input", () => this.choose(this.stops[Math.round(Number(this.slider.value))]));
    this.slider.addEventListener("change", () => this.drawn());
    this.slider.addEventListener("keydown", (event) => this.keyed(event));
    this.number.addEventListener("input", () => this.typed());
    this.number.addEventListener("blur", () => { if (this.error.textContent) this.value = this.last; });
    new ResizeObserver(() => this.thinOut()).observe(this.ticks);
  }

  /** The numbers that may be typed, and the stops of the slider among them, ascending. */
  bounds({ least, most, stops }) {
    Object.assign(this, { least, most, stops });
    [this.slider.min, this.slider.max] = [0, stops.length - 1];
    [this.number.min, this.number.max] = [least, most];
    this.ticks.replaceChildren(
      ...stops.map((stop, i) => {
        const tick = el("button", { type: "button", tabindex: "-1", class: "tick" }, el("span", {}, String(stop)));
        tick.style.setProperty("--at", stops.length > 1 ? i / (stops.length - 1) : 0);
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
    this.complain("");
    this.drawn();
  }

  /** Set the value as a person does. */
  choose(value) {
    if (value === this.last) return this.drawn();
    this.value = value;
    this.changed(false);
  }

  /** Go to the next stop up or down. */
  step(up) {
    const next = up ? this.stops.find((stop) => stop > this.last) : this.stops.findLast((stop) => stop < this.last);
    if (next !== undefined) this.choose(next);
  }

  complain(message) {
    this.error.textContent = message;
    if (message) this.number.setAttribute("aria-invalid", "true");
    else this.number.removeAttribute("aria-invalid");
  }

  keyed(event) {
    const up = { ArrowRight: true, ArrowUp: true, PageUp: true, ArrowLeft: false, ArrowDown: false, PageDown: false }[event.key];
    if (up === undefined) return; // Home and End do what they do
    event.preventDefault();
    this.step(up);
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
    this.drawn();
    this.changed(true);
  }

  /** Where a value is among the stops, which are equally far apart: 1.5 is halfway from the second to the third. */
  place(value) {
    const { stops } = this;
    const next = stops.findIndex((stop) => stop >= value);
    if (next < 0) return stops.length - 1;
    if (next === 0 || stops[next] === value) return next;
    return next - (stops[next] - value) / (stops[next] - stops[next - 1]);
  }

  drawn() {
    const place = this.place(this.last);
    this.slider.step = Number.isInteger(place) ? 1 : "any";
    this.slider.value = place;
    this.slider.style.setProperty("--at", this.stops.length > 1 ? place / (this.stops.length - 1) : 0);
    this.slider.setAttribute("aria-valuetext", this.say(this.last));
    [...this.ticks.children].forEach((tick, i) => tick.classList.toggle("chosen", this.stops[i] === this.last));
  }

  /** Leave out labels that would touch, the last one never. */
  thinOut() {
    let edge = Infinity;
    for (const tick of [...this.ticks.children].reverse()) {
      const { left, right } = tick.firstChild.getBoundingClientRect();
      tick.classList.toggle("bare", right > edge - 3);
      if (right <= edge - 3) edge = left;
    }
  }
}
