package scripttest

import (
	"strings"

	"github.com/picloud/picloud/sdk/service"
	"github.com/picloud/picloud/sdk/stdlib"
)

//go:generate go run ./internal/genreference

// Member is one thing that scripts see, and what it is called in each language. A Go script that is compiled to WebAssembly sees
// what one that is interpreted sees.
type Member struct {
	Of       string // the type that it belongs to; "": it stands alone
	Go       string // empty: there is none in that language
	JS       string
	Starlark string
	TS       string // its declaration in TypeScript
	Says     string
}

// Type is a type of TypeScript that stands for several members.
type Type struct {
	Name string
	TS   string // how its declaration begins; empty: there is none
	Says string
}

// Types returns the types, in the order of the reference.
func Types() []Type {
	types := []Type{
		{"Context", "export interface Context", "One run of a script."},
		{"Event", "export interface Event", "The envelope of an event. Text that there is none of is empty."},
		{"Request", "export interface Request", "The HTTP request, or the data of another event."},
		{"Message", "export interface Message", "One event of a batch."},
		{"Response", "export class Response", "An answer that says more than a value can."},
		{"BatchResult", "export class BatchResult", "Which events of a batch failed; the others are done."},
		{"Failure", "export interface Failure", "An event of a batch that failed."},
		{"Log", "export interface Log", "Writes to the record of the run. Data is kept as JSON; several values become a list."},
		{"Queue", "export interface Queue", "A queue of the app. One that does not exist is noticed when something is sent."},
		{"Delivery", "export interface Delivery", "How one event is delivered, beyond what the policy of its queue or script says."},
		{"Error", "export class PicloudError extends Error", "What calls of the platform fail with."},
	}
	for _, s := range service.Services() {
		if s.Plain || s.Sends {
			continue
		}
		types = append(types, Type{s.Type, "export interface " + s.Type, s.Says})
	}
	types = append(types, Type{"", "", "What stands alone."})
	for _, m := range stdlib.Modules() {
		types = append(types, Type{m[0], declared(m[0]), m[1]})
	}
	return types
}

// Surface returns all that scripts see.
func Surface() []Member {
	members := []Member{
		{"Context", "ctx.ExecutionID", "ctx.executionId", "ctx.execution_id", "readonly executionId: string", "Names the delivery of the event to this script. It stays the same over attempts, so it is good for recognising work that was done already."},
		{"Context", "ctx.Attempt", "ctx.attempt", "ctx.attempt", "readonly attempt: number", "Counts the starts of this delivery, this one included."},
		{"Context", "ctx.SDKVersion", "ctx.sdkVersion", "ctx.sdk_version", "readonly sdkVersion: string", "The version of what scripts see."},
		{"Context", "ctx.Event", "ctx.event", "ctx.event", "readonly event: Event", "The event that this run handles."},
		{"Context", "ctx.Request", "ctx.request", "ctx.request", "readonly request: Request", "The HTTP request, or what stands in its place."},
		{"Context", "ctx.Batch()", "ctx.batch", "ctx.batch", "readonly batch: Message[] | null", "The events of a run that handles several; nothing where it handles one."},
		{"Context", "ctx.Log", "ctx.log", "ctx.log", "readonly log: Log", "The record of this run. What a script prints is logged there at info."},
		{"Context", "ctx.Sleep(d)", "ctx.sleep(ms)", "ctx.sleep(seconds)", "sleep(ms: number): Promise<void>", "Waits, and ends with the run."},
		{"Context", "ctx.Retry(f, options)", "ctx.retry(f, {attempts, backoffMs})", "ctx.retry(f, attempts=, backoff=)", "retry<T>(f: () => T | Promise<T>, options?: { attempts?: number; backoffMs?: number }): Promise<T>", "Calls a function until it does not fail, 3 times or as often as is said, up to 100, and returns what it returned. It waits in between, 100 ms or what is said, each time twice as long, up to 30 seconds; or as long as the error asks. It gives up at once where the error is fatal, or the run would end before the next attempt."},
		{"Context", "ctx.Invoke(script, data, delivery)", "ctx.invoke(script, data, delivery)", "ctx.invoke(script, data, **delivery)", "invoke(script: string, data?: unknown, delivery?: Delivery): Promise<string>", "Has another script of the app run with data as its body, and returns the id of that execution once the event is safe. Bytes and text are sent as they are, anything else as JSON."},
		{"Context", "ctx.Queue(name)", "ctx.queue(name)", "ctx.queue(name)", "queue(name: string): Queue", "Names a queue of the app."},

		{"Event", "ID", "id", "id", "readonly id: string", "The fact: the same in every delivery."},
		{"Event", "Source", "source", "source", "readonly source: string", "Who reports it, such as \"http\"."},
		{"Event", "Type", "type", "type", "readonly type: string", "What happened, such as \"http.request\"."},
		{"Event", "Subject", "subject", "subject", "readonly subject: string", "What it is about."},
		{"Event", "Time", "time", "time", "readonly time: string", "When it was accepted; as text by RFC 3339."},
		{"Event", "ContentType", "contentType", "content_type", "readonly contentType: string", "The media type of its data."},

		{"Request", "Method", "method", "method", "readonly method: string", "In upper case."},
		{"Request", "Host", "host", "host", "readonly host: string", "As the caller named it."},
		{"Request", "Path", "path", "path", "readonly path: string", "Decoded."},
		{"Request", "Rest", "rest", "rest", "readonly rest: string", "What {rest...} of the route matched."},
		{"Request", "Headers", "headers", "headers", "readonly headers: Readonly<Record<string, string[]>>", "By canonical names, \"Content-Type\"."},
		{"Request", "Query", "query", "query", "readonly query: Readonly<Record<string, string[]>>", "The parameters behind the \"?\"."},
		{"Request", "Params", "params", "params", "readonly params: Readonly<Record<string, string>>", "Those of the route: \"/users/{id}\" gives \"id\"."},
		{"Request", "Body", "body", "body", "readonly body: Uint8Array", "The bytes that were sent."},
		{"Request", "Header(name)", "header(name)", "header(name)", "header(name: string): string", "The first value of a header, in any case; \"\" if there is none."},
		{"Request", "Query.Get(name)", "queryValue(name)", "query_value(name)", "queryValue(name: string): string", "The first value of a query parameter; \"\" if there is none."},
		{"Request", "Param(name)", "param(name)", "param(name)", "param(name: string): string", "A parameter of the route; \"\" if there is none."},
		{"Request", "string(Body)", "text()", "text()", "text(): string", "The body as text."},
		{"Request", "JSON(&v)", "json()", "json()", "json<T = unknown>(): T", "The body as JSON; an error if it is none."},

		{"Message", "ID", "id", "id", "readonly id: string", "What the execution's id would be if it came alone."},
		{"Message", "Attempt", "attempt", "attempt", "readonly attempt: number", "Of this event; others of the batch may have another."},
		{"Message", "Event", "event", "event", "readonly event: Event", "Its envelope."},
		{"Message", "Body", "body", "body", "readonly body: Uint8Array", "Its data."},
		{"Message", "string(Body)", "text()", "text()", "text(): string", "Its data as text."},
		{"Message", "JSON(&v)", "json()", "json()", "json<T = unknown>(): T", "Its data as JSON."},

		{"Response", "Response{Status, Headers, Body}", "new Response(body, {status, headers})", "response(status, headers, body)", "constructor(body?: unknown, init?: { status?: number; headers?: Record<string, string | string[]> })", "A status (200 where none is named), headers, and a body: text and bytes are sent as they are, anything else as JSON. A Content-Type is set where there is none."},
		{"Response", "", "Response.json(value, {status, headers})", "", "static json(value: unknown, init?: { status?: number; headers?: Record<string, string | string[]> }): Response", "An answer of JSON, also of text."},

		{"BatchResult", "BatchResult{Failures}", "new BatchResult(failures)", "batch_result(failures)", "constructor(failures: Failure[])", "Is returned to say which events of a batch failed."},
		{"Failure", "Failure.ID", "id", "failure(id)", "id: string", "Of the message."},
		{"Failure", "Failure.Error", "error", "failure(error)", "error?: string", "What went wrong."},
		{"Failure", "Failure.RetryAfter", "retryAfterMs", "failure(retry_after)", "retryAfterMs?: number", "Try again after this; none: as the back-off says."},
		{"Failure", "Failure.Fatal", "fatal", "failure(fatal)", "fatal?: boolean", "Do not try again."},

		{"Log", "Trace(message, data...)", "trace(message, ...data)", "trace(message, *data)", "trace(message: string, ...data: unknown[]): void", "What only helps to find a fault."},
		{"Log", "Debug(message, data...)", "debug(message, ...data)", "debug(message, *data)", "debug(message: string, ...data: unknown[]): void", "What helps to understand a run."},
		{"Log", "Info(message, data...)", "info(message, ...data)", "info(message, *data)", "info(message: string, ...data: unknown[]): void", "What happened."},
		{"Log", "Warn(message, data...)", "warn(message, ...data)", "warn(message, *data)", "warn(message: string, ...data: unknown[]): void", "What should be looked at."},
		{"Log", "Error(message, data...)", "error(message, ...data)", "error(message, *data)", "error(message: string, ...data: unknown[]): void", "What went wrong."},

		{"Queue", "Send(data, delivery)", "send(data, delivery)", "send(data, **delivery)", "send(data?: unknown, delivery?: Delivery): Promise<string>", "Puts a message into the queue and returns its id once it is safe."},
		{"Queue", "SendAll(list, delivery)", "sendAll(list, delivery)", "send_all(list, **delivery)", "sendAll(list: unknown[], delivery?: Delivery): Promise<string[]>", "Sends up to 100 messages, 15 MiB together, and returns their ids. With an error some were not sent."},

		{"Delivery", "Delay", "delayMs", "delay", "delayMs?: number", "Before the first attempt."},
		{"Delivery", "RunAt", "runAt", "run_at", "runAt?: string | Date", "Instead of a delay; as text by RFC 3339."},
		{"Delivery", "ExpiresIn", "expiresInMs", "expires_in", "expiresInMs?: number", "An event that has not started by then is given up."},
		{"Delivery", "Priority", "priority", "priority", "priority?: number", "From -100 to 100, the lower the earlier."},
		{"Delivery", "MaxAttempts", "maxAttempts", "max_attempts", "maxAttempts?: number", "How often it is tried."},
		{"Delivery", "OrderingKey", "orderingKey", "ordering_key", "orderingKey?: string", "Keeps events of one key in order: the next waits until the one before has ended for good."},
		{"Delivery", "ConcurrencyKey", "concurrencyKey", "concurrency_key", "concurrencyKey?: string", "What a policy's limit of runs at one time is counted by."},
		{"Delivery", "RateKey", "rateKey", "rate_key", "rateKey?: string", "What a policy's rate is counted by."},
		{"Delivery", "DebounceKey", "debounceKey", "debounce_key", "debounceKey?: string", "What a policy's debouncing is counted by."},
		{"Delivery", "IdempotencyKey", "idempotencyKey", "idempotency_key", "idempotencyKey?: string", "Makes a second call with the same key and content, within a day, return the id of the first."},

		{"Error", "picloud.Code(err)", "code", "", "readonly code: string", "What was refused: loop_depth, loop_budget, not_found, invalid_argument, overloaded, unavailable, or another."},
		{"Error", "Error.Message", "message", "", "", "Why, for people."},
		{"Error", "Error.RetryAfter", "retryAfterMs", "", "readonly retryAfterMs?: number", "When to try again."},

		{"", "RetryAfter(err, d)", "throw new RetryAfter(message, ms)", "retry_after(message, seconds)", "export class RetryAfter extends Error { constructor(message: string, ms: number) }", "Fails the run and asks to be tried again then, instead of when the back-off says."},
		{"", "Fatal(err)", "throw new Fatal(message)", "fatal(message)", "export class Fatal extends Error { constructor(message: string) }", "Fails the run for good: an event becomes a dead letter at once."},
	}
	for _, s := range service.Services() {
		members = append(members, serviceMembers(&s)...)
	}
	for _, f := range stdlib.Functions() {
		members = append(members, libraryMember(&f))
	}
	return members
}

// declared is how the declaration of a module of the standard library begins, "" where JavaScript has its own.
func declared(module string) string {
	for _, f := range stdlib.Functions() {
		if f.Module == module && f.TS != "" {
			return "export const " + module + ":"
		}
	}
	return ""
}

var libraryTypes = map[stdlib.Kind]string{
	stdlib.Text: "string", stdlib.Data: "string | Uint8Array", stdlib.Number: "number", stdlib.Bool: "boolean", stdlib.Rows: "string[][]",
	stdlib.Fields: "Record<string, string | string[]>", stdlib.Time: "Date",
}

// libraryMember is a function of the standard library.
func libraryMember(f *stdlib.Function) Member {
	var needed, typed, options, typedOptions, inStarlark []string
	for _, p := range f.Params {
		name, of := service.Camel(p.Name), libraryTypes[p.Kind]
		if p.Default != nil {
			options, typedOptions = append(options, name), append(typedOptions, name+"?: "+of)
			inStarlark = append(inStarlark, p.Name+"=")
			continue
		}
		needed, typed, inStarlark = append(needed, name), append(typed, name+": "+of), append(inStarlark, p.Name)
	}
	if len(options) > 0 {
		needed = append(needed, "{"+strings.Join(options, ", ")+"}")
		typed = append(typed, "options?: { "+strings.Join(typedOptions, "; ")+" }")
	}
	m := Member{Of: f.Module, Go: f.Go, JS: f.JS, Starlark: f.Starlark, Says: f.Says}
	if f.Starlark == "" {
		m.Starlark = f.Title() + "(" + strings.Join(inStarlark, ", ") + ")"
	}
	if f.TS != "" {
		name := service.Camel(f.Name)
		m.JS, m.TS = f.Module+"."+name+"("+strings.Join(needed, ", ")+")", name+"("+strings.Join(typed, ", ")+"): "+f.TS
	}
	return m
}

// serviceMembers are how a service of sdk/service is opened, and its methods.
func serviceMembers(s *service.Service) []Member {
	name := service.Camel(s.Name)
	open := Member{"Context", s.Go, "ctx." + name, "ctx." + s.Name, "readonly " + name + ": " + s.Type, s.Says}
	if s.Handle != "" {
		open.JS, open.Starlark = open.JS+"("+s.Handle+")", open.Starlark+"("+s.Handle+")"
		open.TS = name + "(" + s.Handle + ": string): " + s.Type
	}
	members := []Member{open}
	if s.Plain || s.Sends {
		members = nil
	}
	for _, m := range s.Methods {
		js, star, ts := call(&m)
		if s.Plain {
			members = append(members, Member{"Context", m.Go, "ctx." + js, "ctx." + star, ts, m.Says})
			continue
		}
		members = append(members, Member{s.Type, m.Go, js, star, ts, m.Says})
	}
	return members
}

var tsTypes = map[service.Kind]string{
	service.Text: "string", service.Number: "number", service.Value: "unknown", service.Duration: "number",
	service.Texts: "string[]", service.Time: "string | Date", service.Data: "string | Uint8Array", service.Body: "unknown",
}

// call is how a method reads in JavaScript and Starlark, and its declaration in TypeScript.
func call(m *service.Method) (js, star, ts string) {
	var jsArgs, starArgs, tsArgs, options, tsOptions []string
	for _, p := range m.Params {
		name, typed := service.Camel(p.Field), tsTypes[p.Kind]
		if p.Option {
			options, tsOptions = append(options, name), append(tsOptions, name+"?: "+typed)
			starArgs = append(starArgs, p.Seconds()+"=")
			continue
		}
		jsArgs, starArgs, tsArgs = append(jsArgs, name), append(starArgs, p.Seconds()), append(tsArgs, name+": "+typed)
	}
	if len(options) > 0 {
		jsArgs = append(jsArgs, "{"+strings.Join(options, ", ")+"}")
		tsArgs = append(tsArgs, "options?: { "+strings.Join(tsOptions, "; ")+" }")
	}
	name := service.Camel(m.Name)
	generic, result, _ := strings.Cut(m.TS, ": ")
	return name + "(" + strings.Join(jsArgs, ", ") + ")", m.Name + "(" + strings.Join(starArgs, ", ") + ")",
		name + generic + "(" + strings.Join(tsArgs, ", ") + "): Promise<" + result + ">"
}
