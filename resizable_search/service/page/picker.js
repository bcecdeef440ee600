/** A select that waits for the end of a walk with the arrow keys: a closed one changes at every step. */

const PAUSE = 700; // milliseconds

/** `picked()` is called once a choice stands: at once for a pointer, with Enter, on leaving, or after a pause for keys. */
export function onPick(select, picked) {
  let timer = 0;
  let byKeys = false;
  const settle = () => {
    if (!timer) return;
    clearTimeout(timer);
    timer = 0;
    picked();
  };
  select.addEventListener("pointerdown", () => { byKeys = false; });
  select.addEventListener("keydown", (event) => {
    byKeys = true;
    if (event.key === "Enter") settle();
  });
  select.addEventListener("blur", settle);
  select.addEventListener("change", () => {
    clearTimeout(timer);
    timer = setTimeout(settle, byKeys ? PAUSE : 0);
  });
}
