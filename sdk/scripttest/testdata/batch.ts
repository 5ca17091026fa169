import { BatchResult, type Context, type Failure } from "picloud";

export default function handle(ctx: Context) {
  const failures: Failure[] = [];
  for (const m of ctx.batch ?? []) {
    ctx.log.info(m.id + " " + m.event.type + " " + m.text(), m.attempt);
    let ok = false;
    let wrong = false;
    try {
      ok = m.json<{ ok: boolean }>().ok;
    } catch {
      wrong = true;
    }
    if (!ok) failures.push({ id: m.id, error: "not ok", retryAfterMs: 1000, fatal: wrong });
  }
  return new BatchResult(failures);
}
