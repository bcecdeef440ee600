/** Tabs: arrows go along them. Where there is room, the page shows all of their panes without them. */

import { byId } from "./dom.js";

/** Make a row of tabs work. */
export function makeTabs(list) {
  const tabs = [...list.children];
  const choose = (chosen, focus) => {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).classList.toggle("chosen", isChosen);
    }
    if (focus) chosen.focus();
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) choose(tab, false);
  });
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(tabs.at(to % tabs.length), true);
  });
  choose(tabs[0], false);
}
