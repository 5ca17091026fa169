export default async function handle(ctx) {
  let answer, upload;
  for (const { service, handle, method, args, options } of ctx.request.json()) {
    const opened = service === "invoke" ? ctx : handle === null ? ctx[service] : ctx[service](handle);
    answer = await opened[method](...args.map((a) => (upload && a === "{upload}" ? upload : a)), ...(options ? [options] : []));
    if (method === "begin") upload = answer;
  }
  return { answer };
}
