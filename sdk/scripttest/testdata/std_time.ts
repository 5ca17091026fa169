import { time } from "picloud";

export default async function handle() {
  const t = time.parse("2026-01-02T03:04:05+02:00");
  return [
    time.format(t), time.format(new Date(t.getTime() + time.duration("1h30m"))), time.format(t, { layout: "Mon, 02 Jan 2006" }),
    time.format(time.parse("01.02.2026 15:04", { layout: "02.01.2006 15:04" })), new Date().getUTCFullYear() >= 2026,
  ];
}
