import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.email.send({
    to: ["ada@example.com"], cc: ["b@example.com"], replyTo: "c@example.com",
    subject: "Hi", text: "hello", html: "<p>hello</p>",
    attachments: [{ name: "a.csv", content_type: "text/csv", data: "1,2" }],
    idempotencyKey: "k",
  });
}
