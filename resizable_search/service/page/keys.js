/** Single keys as shortcuts, which can be turned off, and the list of them. */

import { byId } from "./dom.js";

const OFF = "rsearch-no-keys";

/** `actions`: what each key does. */
export function listen(actions) {
  const dialog = byId("keys");
  const open = () => {
    byId("keys-on").checked = !localStorage.getItem(OFF);
    dialog.showModal();
  };
  byId("show-keys").addEventListener("click", open);
  byId("keys-close").addEventListener("click", () => dialog.close());
  byId("keys-on").addEventListener("change", (event) => {
    if (event.target.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select");
    if (typing || dialog.open || event.ctrlKey || event.metaKey || event.altKey || localStorage.getItem(OFF)) return;
    const action = event.key === "?" ? open : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
