interface Asked { service: string; handle: string | null; method: string; args: unknown[]; options?: Record<string, unknown> }

export default async function handle(ctx: any): Promise<{ answer: unknown }> {
  let answer: unknown, upload: unknown;
  for (const { service, handle, method, args, options } of ctx.request.json() as Asked[]) {
    const opened = service === "invoke" ? ctx : handle === null ? ctx[service] : ctx[service](handle);
    answer = await opened[method](...args.map((a) => (upload && a === "{upload}" ? upload : a)), ...(options ? [options] : []));
    if (method === "begin") upload = answer;
  }
  return { answer };
}
