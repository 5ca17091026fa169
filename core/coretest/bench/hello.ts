export default function handle() {
  return { message: "hello" };
}
