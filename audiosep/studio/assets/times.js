// Seconds as they are shown and typed.

// Minutes and seconds, as 1:15.5.
export function clock(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const minutes = Math.floor(rounded / 60);
  return `${minutes}:${(rounded - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
}

// As the fields of a stretch have them.
export function exact(seconds) {
  return seconds < 60 ? seconds.toFixed(2) : clock(seconds, 2);
}

// What is typed as 75.5 or 1:15.5, with a point or a comma; NaN for anything else.
export function parsed(text) {
  const parts = text.trim().replace(",", ".").split(":");
  return parts.reduce((sum, part) => 60 * sum + (/^\d+(\.\d*)?$/.test(part) ? Number(part) : NaN), 0);
}

export function spanText(spans) {
  const shown = spans.slice(0, 4).map(([start, end]) =>
    end < 60 ? `${start.toFixed(1)}-${end.toFixed(1)} s` : `${clock(start, 1)}-${clock(end, 1)}`);
  return shown.join(", ") + (spans.length > 4 ? ` and ${spans.length - 4} more` : "");
}
