// The keys of the page.

// The action of a key that was pressed, of those of the page that has these parts; null where it means none.
function action(key, { player, timeline, tracks, marking, zoom, transport }) {
  if (/^[1-9]$/.test(key)) return Number(key) <= [...tracks].length ? () => tracks.choose(Number(key) - 1) : null;
  const actions = {
    " ": () => transport.toggle(),
    a: () => transport.compare(),
    l: () => transport.toggleLoop(),
    m: () => tracks.click("mute"),
    s: () => tracks.click("solo"),
    i: () => marking.selectFrom(player.position()),
    o: () => marking.selectTo(player.position()),
    z: () => zoom.mark(),
    "+": () => zoom.closer(),
    "=": () => zoom.closer(), // the key of + without Shift
    "-": () => zoom.wider(),
    0: () => zoom.all(),
    ArrowLeft: () => transport.step(-1),
    ArrowRight: () => transport.step(1),
    Home: () => transport.seek(0),
    End: () => transport.seek(timeline.total),
  };
  return actions[key] ?? null;
}

// Does what a key means, unless it is for what it was pressed in.
export function onKey(event, parts) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  if (event.key === "Escape" && !target.matches?.("select, .studio-text")) return parts.marking.select(null);
  if (target.matches?.("input:not([type=range]):not([type=file]), select, textarea")) return;
  const pressing = target.matches?.("button, summary, a, label");
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((key === " " && pressing) || (key.length > 1 && target.matches?.("input"))) return;
  const act = action(key, parts);
  if (!act) return;
  act();
  event.preventDefault();
}
