export default async function handle() {
  const text = "order 17 of 2026-11-28, order 18";
  const order = /order (\d+)/g;
  return [
    /order (\d+)/.test(text), text.match(/(\d{4})-\d\d-(\d\d)/), [...text.matchAll(order)].map((found) => found[1]),
    text.replaceAll(order, "#$1"), text.split(/,\s*|\s+of\s+/), /^order \d+$/.test(text), text.includes("7 of 2026"),
  ];
}
