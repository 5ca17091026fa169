// Package scripttest is what a script sees of the platform, once for all languages: a list of promises, and a script for each
// of them in every language that there is. Run checks that an engine keeps them; sdk/README.md and sdk/picloud/typescript/picloud.d.ts are
// made from the same list. Whoever changes it changes what scripts see, and so picloud.Version.
package scripttest

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

//go:embed testdata
var testdata embed.FS

// Scripts holds the scripts of the languages that are built in. A case's script is named after it, "hello.go"; the module "greet"
// of its app is "hello.greet.go".
func Scripts() fs.FS {
	scripts, err := fs.Sub(testdata, "testdata")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return scripts
}

// Case is one promise, and what shows that it is kept.
type Case struct {
	Name  string // that of its scripts
	Group string // the heading under which it stands in the reference
	Says  string // what is promised, in a sentence

	// The run.
	Event   *event.Envelope // nil: the HTTP request GET /hello/Ada of a route /hello/{name}
	Body    string
	Modules []string // of the app
	Limits  engine.Limits
	Timeout time.Duration // zero: a minute
	Calls   []Call        // what the script asks the host for, in this order

	// What comes of it. Fault stands for a run that fails.
	Status  int
	Headers map[string]string // among others; several values of one name are joined by ", "
	Answer  string            // the body: the same bytes, or JSON of the same meaning
	Logs    []string          // "level message data"
	Fault   *Fault
}

// Call is what a script asks the host for, and what it is told.
type Call struct {
	Name   string // "invoke.send"
	Args   string // JSON
	Result string // JSON
	Fault  *fault.Fault
}

// Fault is how a run fails. Its origin is the script.
type Fault struct {
	Kinds      []fault.Kind // one of these
	Says       string       // is part of the message
	RetryAfter time.Duration
	Fatal      bool
}

// request is an HTTP request that uses all that there is.
var request = &event.Envelope{
	ID: "e1", Source: "http", Type: "http.request", Time: time.Unix(1, 5e8).UTC(),
	HTTP: &event.HTTP{
		Method: "PUT", Host: "example.com", Path: "/things/7/a b/c", Query: "q=1&q=2&x=%C3%A9", Rest: "a b/c",
		Headers: []event.Header{{Name: "Accept", Value: "a"}, {Name: "Accept", Value: "b"}, {Name: "X-One", Value: "1"}},
		Params:  []event.Param{{Name: "id", Value: "7"}},
	},
}

// hello is what a case runs for that does not say.
var hello = &event.Envelope{
	ID: "e1", Source: "http", Type: "http.request", Time: time.Unix(1, 0).UTC(),
	HTTP: &event.HTTP{Method: "GET", Host: "example.com", Path: "/hello/Ada", Params: []event.Param{{Name: "name", Value: "Ada"}}},
}

// message is an event that is no request.
var message = &event.Envelope{
	ID: "e1", Source: "queue", Type: "queue.message", Subject: "mail", Time: time.Unix(1, 5e8).UTC(), ContentType: "application/json",
}

const batchBody = `{"items":[` +
	`{"id":"m1","attempt":1,"event":{"id":"v1","source":"queue","type":"queue.message","time":"2020-01-02T03:04:05Z"},"body":"{\"ok\":true}"},` +
	`{"id":"m2","attempt":3,"event":{"id":"v2","source":"queue","type":"queue.message","time":"2020-01-02T03:04:05Z"},"body":"{\"ok\":false}"},` +
	`{"id":"m3","attempt":1,"event":{"id":"v3","source":"queue","type":"queue.message","time":"2020-01-02T03:04:05Z"},"body":"none"}]}`

const fileA = `{"id":"f1","name":"a.txt","content_type":"text/plain","size":2,"sha256":"06","created_at":"2020-01-02T03:04:05Z","updated_at":"2020-01-02T03:04:05Z"}`

// orders is an order list of some 100 KB.
func orders() string {
	var b strings.Builder
	for i := range 650 {
		separator := ","
		if i == 0 {
			separator = "["
		}
		fmt.Fprintf(&b, `%s{"customer":"customer-%d","lines":[{"item":"a rather long name of an item","count":%d,"cents":%d},`+
			`{"item":"pear","count":2,"cents":40}],"paid":true,"note":null}`, separator, i%13, i%7, 100+i)
	}
	return b.String() + "]"
}

// failed is a fault of the script's own making.
func failed(says string) *Fault { return &Fault{Kinds: []fault.Kind{fault.ScriptError}, Says: says} }

func limit(says string) *Fault { return &Fault{Kinds: []fault.Kind{fault.Limit}, Says: says} }

func unsendable(says string) *Fault {
	return &Fault{Kinds: []fault.Kind{fault.InvalidResponse}, Says: says}
}

const sent = `{"id":"e7"}`

// Cases returns the promises, in the order of the reference.
func Cases() []Case {
	return []Case{
		{Name: "hello", Group: "A script", Says: "The script's function is called once for each request, and what it returns is the answer.", Status: 200, Headers: jsonType, Answer: `{"hello":"Ada"}`},

		{Name: "ctx_run", Group: "The run", Says: "A run knows its execution, which attempt it is, and the version of what it sees.", Status: 200, Answer: `["x1",3,"` + picloud.Version + `"]`},
		{Name: "ctx_event", Group: "The run", Says: "Every run has the event that it handles; text that there is none of is empty.", Event: message, Status: 200, Answer: `["e1","queue","queue.message","mail","1970-01-01T00:00:01.5Z","application/json"]`},
		{Name: "ctx_request", Group: "The run", Says: "A request has all that was sent. Header names are canonical, and found in any case; what is not there is empty.", Event: request, Status: 200, Answer: `["PUT","example.com","/things/7/a b/c","a b/c",{"id":"7"},{"Accept":["a","b"],"X-One":["1"]},{"q":["1","2"],"x":["é"]},"1","","7","","1",""]`},
		{Name: "ctx_request_none", Group: "The run", Says: "An event that is no HTTP request has an empty one, with the event's data as its body.", Event: message, Body: "data", Status: 200, Answer: `["","",0,0,"","data"]`},
		{Name: "body_bytes", Group: "The run", Says: "A body is bytes, whatever they are.", Body: "\x00a\xff", Status: 200, Answer: `[3,0,255]`},
		{Name: "body_json", Group: "The run", Says: "A body can be read as JSON.", Body: `{"a":[1,{"b":null}]}`, Status: 200, Answer: `{"a":[1,{"b":null}]}`},
		{Name: "body_json_wrong", Group: "The run", Says: "A body that is no JSON is an error that says so.", Body: `{"a":`, Fault: failed("the body is not the JSON that is expected")},
		{Name: "sleep", Group: "The run", Says: "A run can wait, and ends at its time limit all the same.", Status: 200, Answer: `true`},

		{Name: "response_nothing", Group: "Answers", Says: "Nothing is an empty answer with status 204.", Status: 204},
		{Name: "response_value", Group: "Answers", Says: "A value is sent as JSON with status 200.", Status: 200, Headers: jsonType, Answer: `{"list":[1,"two",null,true]}`},
		{Name: "response_text_value", Group: "Answers", Says: "So is a text.", Status: 200, Headers: jsonType, Answer: `"text"`},
		{Name: "response_whole", Group: "Answers", Says: "A response has a status, headers with one value or several, and a body.", Status: 201, Headers: map[string]string{"Content-Type": "application/json", "Location": "/things/7", "X-Two": "a, b"}, Answer: `{"id":7}`},
		{Name: "response_text", Group: "Answers", Says: "A text as the body of a response is sent as it is.", Status: 200, Headers: map[string]string{"Content-Type": "text/plain; charset=utf-8"}, Answer: "héllo"},
		{Name: "response_bytes", Group: "Answers", Says: "So are bytes.", Status: 200, Headers: map[string]string{"Content-Type": "application/octet-stream"}, Answer: "\x00\xff\x01"},
		{Name: "response_type", Group: "Answers", Says: "A Content-Type of the script's own is kept.", Status: 200, Headers: map[string]string{"Content-Type": "text/html"}, Answer: "<p>"},
		{Name: "response_empty", Group: "Answers", Says: "A response need not have a body.", Status: 304},
		{Name: "response_status_wrong", Group: "Answers", Says: "A status that is not from 200 to 599 fails the run.", Fault: unsendable("99")},
		{Name: "response_header_wrong", Group: "Answers", Says: "So does a header that HTTP does not allow,", Fault: unsendable("X-A")},
		{Name: "response_header_own", Group: "Answers", Says: "one that belongs to the connection,", Fault: unsendable("Content-Length")},
		{Name: "response_unencodable", Group: "Answers", Says: "and a value that JSON has no form for.", Fault: unsendable("")},
		{Name: "json_types", Group: "Answers", Says: "Every type of JSON comes and goes unchanged.", Body: `[null,true,false,0,-7,9007199254740991,-9007199254740991,0.1,1e-7,1e21,1.7976931348623157e308,"","\"\\\/\b\f\n\r\t\u0000é✓😀\u2028",[],{},[[[]]],{"":{"a b":[{}]}}]`, Status: 200, Answer: `{"same":[null,true,false,0,-7,9007199254740991,-9007199254740991,0.1,1e-7,1e21,1.7976931348623157e308,"","\"\\\/\b\f\n\r\t\u0000é✓😀\u2028",[],{},[[[]]],{"":{"a b":[{}]}}],"own":[null,true,false,0,-1,1.5,"\"\\\n\u0001é✓😀",[],{}]}`},
		{Name: "orders", Group: "Answers", Says: "A list of orders of 100 KB is read, added up and answered.", Body: orders(), Status: 200, Answer: `{"orders":650,"best":[{"customer":"customer-11","cents":69810},{"customer":"customer-10","cents":69549},{"customer":"customer-12","cents":69436}]}`},

		{Name: "error", Group: "Errors", Says: "A script fails in its language's way: a caller has a 502, an event is tried again.", Fault: failed("no luck")},
		{Name: "error_panic", Group: "Errors", Says: "A mistake of the script fails its run, and nothing else.", Fault: &Fault{Kinds: []fault.Kind{fault.ScriptError, fault.ScriptPanic}}},
		{Name: "error_retry_after", Group: "Errors", Says: "A script can say when to try again,", Fault: &Fault{Kinds: []fault.Kind{fault.ScriptError}, Says: "busy", RetryAfter: 90 * time.Second}},
		{Name: "error_fatal", Group: "Errors", Says: "or that it is of no use.", Fault: &Fault{Kinds: []fault.Kind{fault.ScriptError}, Says: "never", Fatal: true}},

		{Name: "log", Group: "Logs", Says: "A line has a level, a message, and as data nothing, one value, or several that become a list.", Status: 204, Logs: []string{"trace a ", "debug b ", `info c {"n":1}`, `warn d [1,"two"]`, "error é✓ "}},
		{Name: "log_print", Group: "Logs", Says: "What a script prints is logged at info.", Status: 204, Logs: []string{"info printed 1 "}},

		{Name: "batch", Group: "Batches", Says: "A run for several events has them all, and says which failed.", Event: &event.Envelope{Type: event.BatchType}, Body: batchBody, Status: 200, Headers: map[string]string{"Content-Type": event.BatchContentType}, Answer: `{"failures":[{"id":"m2","error":"not ok","retry_after_ms":1000},{"id":"m3","error":"not ok","retry_after_ms":1000,"fatal":true}]}`, Logs: []string{`info m1 queue.message {"ok":true} 1`, `info m2 queue.message {"ok":false} 3`, `info m3 queue.message none 1`}},
		{Name: "batch_none", Group: "Batches", Says: "A run for one event has no batch.", Status: 200, Answer: `true`},

		{Name: "invoke", Group: "Other scripts and queues", Says: "A script has another one run, and learns the id of that execution when the event is safe.", Calls: []Call{{Name: "invoke.send", Args: `{"script":"bill","data":"{\"order\":7}","content_type":"application/json"}`, Result: sent}}, Status: 200, Answer: `"e7"`},
		{Name: "invoke_data", Group: "Other scripts and queues", Says: "Text and bytes are sent as they are.", Calls: []Call{
			{Name: "invoke.send", Args: `{"script":"bill","data":"text","content_type":"text/plain; charset=utf-8"}`, Result: sent},
			{Name: "invoke.send", Args: `{"script":"bill","data_base64":"/w==","content_type":"application/octet-stream"}`, Result: sent},
			{Name: "invoke.send", Args: `{"script":"bill"}`, Result: sent},
		}, Status: 204},
		{Name: "invoke_delivery", Group: "Other scripts and queues", Says: "An event may ask for its own delay, expiry, priority, attempts and keys,", Calls: []Call{{Name: "invoke.send", Args: `{"script":"bill","delivery":{"delay_ms":1000,"expires_in_ms":60000,"priority":-5,"max_attempts":3,"ordering_key":"a","concurrency_key":"b","rate_key":"c","debounce_key":"d","idempotency_key":"e"}}`, Result: sent}}, Status: 200, Answer: `"e7"`},
		{Name: "invoke_run_at", Group: "Other scripts and queues", Says: "or for a time.", Calls: []Call{{Name: "invoke.send", Args: `{"script":"bill","delivery":{"run_at":"2030-01-02T03:04:05Z"}}`, Result: sent}}, Status: 200, Answer: `"e7"`},
		{Name: "call", Group: "Other scripts and queues", Says: "A script calls another one and waits for its answer, whatever its status.", Calls: []Call{
			{Name: "invoke.call", Args: `{"script":"price","body":{"item":7}}`, Result: `{"status":200,"headers":{"Content-Type":["application/json"]},"body":"{\"cents\":40}"}`},
			{Name: "invoke.call", Args: `{"script":"price","body":"text","headers":{"X-A":["1"]},"timeout_ms":1500}`, Result: `{"status":404,"headers":{},"body":""}`},
		}, Status: 200, Answer: `[200,40,404]`},
		{Name: "call_failed", Group: "Other scripts and queues", Says: "If that fails the error says so, and which script it was.", Calls: []Call{
			{Name: "invoke.call", Args: `{"script":"price","body":1}`, Fault: fault.New(fault.ScriptError, fault.Script, `the script "price" failed: no luck`)},
		}, Fault: failed(`script_error: the script "price" failed: no luck`)},
		{Name: "queue", Group: "Other scripts and queues", Says: "A script sends a message to a queue,", Calls: []Call{{Name: "queue.send", Args: `{"queue":"mail","messages":[{"data":"hello","content_type":"text/plain; charset=utf-8","delivery":{"priority":1}}]}`, Result: `{"messages":[{"id":"e7"}]}`}}, Status: 200, Answer: `"e7"`},
		{Name: "queue_all", Group: "Other scripts and queues", Says: "or several at once. Of an idempotency key each has its own.", Calls: []Call{{Name: "queue.send", Args: `{"queue":"mail","messages":[{"data":"one","content_type":"text/plain; charset=utf-8","delivery":{"idempotency_key":"k/0"}},{"data":"2","content_type":"application/json","delivery":{"idempotency_key":"k/1"}}]}`, Result: `{"messages":[{"id":"a"},{"id":"b"}]}`}}, Status: 200, Answer: `["a","b"]`},
		{Name: "queue_all_part", Group: "Other scripts and queues", Says: "Where some are refused, the error is that of the first of them.", Calls: []Call{{Name: "queue.send", Args: `{"queue":"mail","messages":[{"data":"one","content_type":"text/plain; charset=utf-8"},{"data":"two","content_type":"text/plain; charset=utf-8"}]}`, Result: `{"messages":[{"id":"a"},{"code":"overloaded","error":"too much waits","retry_after_ms":1500}]}`}}, Fault: failed("too much waits")},
		{Name: "queue_depth", Group: "Other scripts and queues", Says: "A script sees how full a queue is, and empties it.", Calls: []Call{
			{Name: "queue.depth", Args: `{"queue":"mail"}`, Result: `{"waiting":7,"running":1,"oldest_age_ms":2500}`},
			{Name: "queue.purge", Args: `{"queue":"mail"}`, Result: `{"purged":7,"more":false}`},
		}, Status: 200, Answer: `[7,1,2500,7,false]`},
		{Name: "service_error", Group: "Other scripts and queues", Says: "What the platform refuses is an error, with its code in the text.", Calls: []Call{{Name: "invoke.send", Args: `{"script":"nobody"}`, Fault: fault.New(fault.NotFound, fault.Script, "there is no such script")}}, Fault: failed("not_found: there is no such script")},
		{Name: "service_error_code", Group: "Other scripts and queues", Says: "A script can tell errors apart, and go on.", Calls: []Call{{Name: "invoke.send", Args: `{"script":"nobody"}`, Fault: &fault.Fault{Kind: fault.Overloaded, Origin: fault.Script, Message: "too much waits", RetryAfter: 1500 * time.Millisecond}}}, Status: 200, Answer: `[true,true,"too much waits",1500]`},

		{Name: "kv", Group: "Values by key", Says: "Values are JSON: what is set comes back; with a time to live, and with the version that the value has to have.", Calls: []Call{
			{Name: "kv.get", Args: `{"collection":"users","key":"ada"}`, Result: `{"key":"ada","version":0}`},
			{Name: "kv.set", Args: `{"collection":"users","key":"ada","value":{"name":"Ada","langs":["go"]},"ttl_ms":60000,"if_version":0}`, Result: `{"version":7}`},
			{Name: "kv.get", Args: `{"collection":"users","key":"ada"}`, Result: `{"key":"ada","value":{"name":"Ada"},"version":7,"expires_at":"2030-01-02T03:04:05Z"}`},
			{Name: "kv.get", Args: `{"collection":"users","key":"ada"}`, Result: `{"key":"ada","value":{"name":"Ada"},"version":7,"expires_at":"2030-01-02T03:04:05Z"}`},
			{Name: "kv.has", Args: `{"collection":"users","key":"ada"}`, Result: `{"found":true}`},
			{Name: "kv.increment", Args: `{"collection":"users","key":"n","by":5}`, Result: `{"value":12}`},
			{Name: "kv.delete", Args: `{"collection":"users","key":"ada"}`, Result: `{"deleted":true}`},
		}, Status: 200, Answer: `[false,7,"Ada",7,"2030-01-02T03:04:05Z",true,12,true]`},
		{Name: "kv_list", Group: "Values by key", Says: "Keys are listed in order, page by page.", Calls: []Call{
			{Name: "kv.list", Args: `{"collection":"users","prefix":"a","limit":2}`, Result: `{"items":[{"key":"a","value":1,"version":1},{"key":"ab","value":{"next_cursor":"kept"},"version":2}],"next_cursor":"c"}`},
			{Name: "kv.list", Args: `{"collection":"users","prefix":"a","limit":2,"cursor":"c"}`, Result: `{"items":[],"next_cursor":""}`},
		}, Status: 200, Answer: `["a","ab",{"next_cursor":"kept"},0]`},
		{Name: "kv_conflict", Group: "Values by key", Says: "Whoever comes too late is told so.", Calls: []Call{
			{Name: "kv.set", Args: `{"collection":"users","key":"ada","value":1,"if_version":7}`, Fault: fault.New(fault.Conflict, fault.Script, "the value has another version by now")},
		}, Fault: failed("conflict: the value has another version by now")},

		{Name: "files", Group: "Files", Says: "Text and bytes are kept as files, and come back as bytes.", Calls: []Call{
			{Name: "files.create", Args: `{"collection":"notes","name":"a.txt","content_type":"text/plain","data_base64":"AP8="}`, Result: fileA},
			{Name: "files.head", Args: `{"collection":"notes","id":"f1"}`, Result: `{"file":` + fileA + `}`},
			{Name: "files.get", Args: `{"collection":"notes","id":"f1"}`, Result: `{"data_base64":"AP8="}`},
			{Name: "files.get", Args: `{"collection":"notes","id":"f2"}`, Result: `{}`},
			{Name: "files.list", Args: `{"collection":"notes","limit":5}`, Result: `{"items":[` + fileA + `],"next_cursor":""}`},
			{Name: "files.delete", Args: `{"collection":"notes","id":"f1"}`, Result: `{"deleted":true}`},
		}, Status: 200, Answer: `["f1","text/plain",2,[0,255],true,"a.txt",true]`},
		{Name: "files_large", Group: "Files", Says: "A large file is written part by part, and read block by block.", Calls: []Call{
			{Name: "files.begin", Args: `{"collection":"notes"}`, Result: `{"upload":"u1"}`},
			{Name: "files.write", Args: `{"collection":"notes","upload":"u1","offset":0,"data_base64":"AP8="}`, Result: `{"size":2}`},
			{Name: "files.write", Args: `{"collection":"notes","upload":"u1","offset":2,"data_base64":"YQ=="}`, Result: `{"size":3}`},
			{Name: "files.finish", Args: `{"collection":"notes","upload":"u1","name":"a.txt","content_type":"text/plain"}`, Result: fileA},
			{Name: "files.read", Args: `{"collection":"notes","id":"f1","block":0}`, Result: `{"data_base64":"AP8=","more":true,"content":"c1"}`},
			{Name: "files.read", Args: `{"collection":"notes","id":"f1","block":1}`, Result: `{"data_base64":"YQ==","more":false,"content":"c1"}`},
		}, Status: 200, Answer: `["f1",3]`},

		{Name: "publish", Group: "Topics", Says: "A message is published, and the script told how many triggers take it; with options, as events are sent.", Calls: []Call{
			{Name: "pubsub.publish", Args: `{"topic":"user.created","message":{"name":"Ada"}}`, Result: `{"deliveries":2}`},
			{Name: "pubsub.publish", Args: `{"topic":"user.gone","message":null,"delay_ms":1500,"priority":-3,"idempotency_key":"k"}`, Result: `{"deliveries":0}`},
			{Name: "pubsub.publish", Args: `{"topic":"user.gone","message":1,"run_at":"2030-01-02T03:04:05Z","expires_in_ms":60000,"max_attempts":3,"ordering_key":"a","concurrency_key":"b","rate_key":"c","debounce_key":"d"}`, Result: `{"deliveries":1}`},
		}, Status: 200, Answer: `[2,0,1]`},
		{Name: "publish_ephemeral", Group: "Topics", Says: "A message that is of use only now is handed to whoever has room for it.", Calls: []Call{
			{Name: "pubsub.publish_ephemeral", Args: `{"topic":"user.typing","message":{"name":"Ada"}}`, Result: `{"deliveries":2,"dropped":1}`},
		}, Status: 200, Answer: `[2,1]`},
		{Name: "publish_refused", Group: "Topics", Says: "What is refused is published to nobody.", Calls: []Call{
			{Name: "pubsub.publish", Args: `{"topic":"user.*","message":1}`, Fault: fault.New(fault.Invalid, fault.Script, "topic: holds a star")},
		}, Fault: failed("invalid_argument: topic: holds a star")},

		{Name: "sink", Group: "Sinks and e-mail", Says: "A message goes to a sink: a text, or any JSON with a type and the options of a delivery.", Calls: []Call{
			{Name: "sink.send", Args: `{"sink":"billing","message":"hello"}`, Result: `{"id":"x1"}`},
			{Name: "sink.send", Args: `{"sink":"billing","message":{"order":7},"type":"order.paid","delay_ms":1500,"max_attempts":3,"idempotency_key":"k"}`, Result: `{"id":"x2"}`},
		}, Status: 200, Answer: `["x1","x2"]`},
		{Name: "sink_missing", Group: "Sinks and e-mail", Says: "A sink that the app has not is not found.", Calls: []Call{
			{Name: "sink.send", Args: `{"sink":"nowhere","message":1}`, Fault: fault.New(fault.NotFound, fault.Script, `there is no sink "nowhere" in this app`)},
		}, Fault: failed(`not_found: there is no sink "nowhere"`)},
		{Name: "email", Group: "Sinks and e-mail", Says: "An e-mail has recipients, a subject, a text or a page, and attachments.", Calls: []Call{
			{Name: "email.send", Args: `{"to":["ada@example.com"],"cc":["b@example.com"],"reply_to":"c@example.com","subject":"Hi","text":"hello","html":"<p>hello</p>",` +
				`"attachments":[{"name":"a.csv","content_type":"text/csv","data":"1,2"}],"idempotency_key":"k"}`, Result: `{"id":"x1"}`},
		}, Status: 200, Answer: `"x1"`},

		{Name: "docs", Group: "Documents", Says: "Documents are JSON objects: what is stored comes back, with an id, a version and times.", Calls: []Call{
			{Name: "docs.create", Args: `{"collection":"orders","data":{"total":12,"item_count":1}}`, Result: `{"id":"0190","data":{"total":12,"item_count":1},"version":7,"created_at":"2030-01-02T03:04:05Z","updated_at":"2030-01-02T03:04:05Z"}`},
			{Name: "docs.get", Args: `{"collection":"orders","id":"0190"}`, Result: `{"doc":{"id":"0190","data":{"total":12,"item_count":1},"version":7,"created_at":"2030-01-02T03:04:05Z","updated_at":"2030-01-02T03:04:05Z"}}`},
			{Name: "docs.update", Args: `{"collection":"orders","id":"0190","data":{"total":13,"item_count":2},"if_version":7}`, Result: `{"id":"0190","data":{"total":13,"item_count":2},"version":8,"created_at":"2030-01-02T03:04:05Z","updated_at":"2030-01-02T03:04:06Z"}`},
			{Name: "docs.delete", Args: `{"collection":"orders","id":"0190"}`, Result: `{"deleted":true}`},
			{Name: "docs.get", Args: `{"collection":"orders","id":"0190"}`, Result: `{}`},
		}, Status: 200, Answer: `["0190",7,1,8,"2030-01-02T03:04:06Z",true,false]`},
		{Name: "docs_find", Group: "Documents", Says: "They are found by what is in them, in an order, page by page.", Calls: []Call{
			{Name: "docs.index", Args: `{"collection":"orders","path":"total","type":"number"}`, Result: `{"state":"ready"}`},
			{Name: "docs.find", Args: `{"collection":"orders","filter":{"status":"open","total":{"$gte":10}},"sort":["-total"],"limit":1}`, Result: `{"items":[{"id":"0190","data":{"total":13,"item_count":2},"version":8,"created_at":"2030-01-02T03:04:05Z","updated_at":"2030-01-02T03:04:06Z"}],"next_cursor":"c"}`},
			{Name: "docs.find", Args: `{"collection":"orders","filter":{"status":"open","total":{"$gte":10}},"sort":["-total"],"limit":1,"cursor":"c"}`, Result: `{"items":[],"next_cursor":""}`},
			{Name: "docs.find_one", Args: `{"collection":"orders","filter":{"status":"none"}}`, Result: `{}`},
		}, Status: 200, Answer: `["0190",2,0,false]`},
		{Name: "docs_missing", Group: "Documents", Says: "What is not there cannot be changed.", Calls: []Call{
			{Name: "docs.update", Args: `{"collection":"orders","id":"0190","data":{"total":1}}`, Fault: fault.New(fault.NotFound, fault.Script, "there is no document of this id in the collection")},
		}, Fault: failed("not_found: there is no document of this id in the collection")},

		{Name: "http", Group: "The world outside", Says: "A script makes requests, and has what came back whatever its status.", Calls: []Call{
			{Name: "http.get", Args: `{"url":"https://example.com/a"}`, Result: `{"status":404,"headers":{"X-B":["1","2"],"X_c":["3"]},"body":"none"}`},
			{Name: "http.post", Args: `{"url":"https://example.com/b","body":{"n":1}}`, Result: `{"status":201,"headers":{},"body":"{\"id\":7}"}`},
			{Name: "http.put", Args: `{"url":"https://example.com/b","body":"text"}`, Result: `{"status":204,"headers":{},"body":""}`},
			{Name: "http.request", Args: `{"url":"https://example.com/c","method":"PROPFIND","headers":{"X-A":["1"]},"body_base64":"/w==","timeout_ms":1500}`, Result: `{"status":200,"headers":{},"body_base64":"AP8="}`},
		}, Status: 200, Answer: `[404,"2","3","none",7,204,2]`},
		{Name: "http_methods", Group: "The world outside", Says: "The methods of HTTP have functions of their own.", Calls: []Call{
			{Name: "http.head", Args: `{"url":"https://example.com/"}`, Result: `{"status":200,"headers":{},"body":""}`},
			{Name: "http.patch", Args: `{"url":"https://example.com/","body":[1]}`, Result: `{"status":202,"headers":{},"body":""}`},
		}, Status: 200, Answer: `[200,202]`},
		{Name: "http_error", Group: "The world outside", Says: "What cannot be reached is an error.", Calls: []Call{
			{Name: "http.delete", Args: `{"url":"http://10.0.0.1/"}`, Fault: fault.New(fault.Unavailable, fault.Script, "the host cannot be reached")},
		}, Fault: failed("unavailable: the host cannot be reached")},

		{Name: "secrets", Group: "Secrets", Says: "Secrets are JSON, and text for the most part; one that is not there is nothing.", Calls: []Call{
			{Name: "secrets.get", Args: `{"name":"KEY"}`, Result: `{"value":"s3cret"}`},
			{Name: "secrets.get", Args: `{"name":"NONE"}`, Result: `{}`},
			{Name: "secrets.set", Args: `{"name":"TOKEN","value":{"a_b":1}}`, Result: `{}`},
			{Name: "secrets.get", Args: `{"name":"TOKEN"}`, Result: `{"value":{"a_b":1}}`},
			{Name: "secrets.delete", Args: `{"name":"TOKEN"}`, Result: `{"deleted":true}`},
			{Name: "secrets.list", Args: `{}`, Result: `{"names":["KEY"]}`},
		}, Status: 200, Answer: `["s3cret",false,1,true,["KEY"]]`},

		{Name: "std_encode", Group: "The standard library", Says: "Bytes and texts become base64 and hexadecimal, and come back.", Status: 200, Answer: `[["","Zg==","Zm8=","Zm9v","Zm9vYg==","Zm9vYmE=","Zm9vYmFy"],"+/8=","-_8",[251,255],[251,255],"foobar","666f6f626172",[192,255,238]]`},
		{Name: "std_wrong", Group: "The standard library", Says: "What is no base64 is an error.", Fault: failed("illegal base64 data at input byte 4")},
		{Name: "std_url", Group: "The standard library", Says: "Addresses are taken apart, put together and escaped.", Status: 200, Answer: `["a%20b%26c%2F%C3%BC~","a b&c/ü~",["https","ada","s x","example.com","8443","/a%20b/c","q=1&q=2","top"],"https://example.com/c","a=x+y&b=1&b=2",["a b","ü"]]`},
		{Name: "std_hash", Group: "The standard library", Says: "Digests and signatures are those that everybody makes, and are compared in constant time.", Status: 200, Answer: `["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f","a9993e364706816aba3e25717850c26c9cd0d89d","900150983cd24fb0d6963f7d28e17f72","5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843","164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737","effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",true,false]`},
		{Name: "std_random", Group: "The standard library", Says: "Random bytes, numbers and UUIDs are there.", Status: 200, Answer: `[16,true,true,36,"4",true]`},
		{Name: "std_csv", Group: "The standard library", Says: "Tables are read from CSV, and written.", Status: 200, Answer: `[[["a","b \"q\" c",""],["1;2","x\ny"]],[["1","2,3"]],"a,\"b,c\",\"d\"\"e\",\n\" f\",\"g\nh\"\n"]`},
		{Name: "std_regex", Group: "The standard library", Says: "Regular expressions find, replace and divide.", Status: 200, Answer: `[true,["2026-11-28","2026","28"],["17","18"],"#17 of 2026-11-28, #18",["order 17","2026-11-28","order 18"],false,true]`},
		{Name: "std_time", Group: "The standard library", Says: "Times are read, reckoned with and written.", Status: 200, Answer: `["2026-01-02T01:04:05Z","2026-01-02T02:34:05Z","Fri, 02 Jan 2026","2026-02-01T15:04:00Z",true]`},
		{Name: "retry", Group: "The standard library", Says: "A script tries again what has failed, and waits longer each time, or as long as it is asked to.", Calls: []Call{
			{Name: "kv.get", Args: `{"collection":"c","key":"k"}`, Fault: fault.New(fault.Unavailable, fault.Script, "not now")},
			{Name: "kv.get", Args: `{"collection":"c","key":"k"}`, Fault: &fault.Fault{Kind: fault.Overloaded, Origin: fault.Script, Message: "too much waits", RetryAfter: 20 * time.Millisecond}},
			{Name: "kv.get", Args: `{"collection":"c","key":"k"}`, Result: `{"key":"k","value":7,"version":1}`},
		}, Status: 200, Answer: `[7,3]`},
		{Name: "retry_last", Group: "The standard library", Says: "The last error is that of the run,", Calls: []Call{
			{Name: "kv.get", Args: `{"collection":"c","key":"k"}`, Fault: fault.New(fault.Unavailable, fault.Script, "not now")},
			{Name: "kv.get", Args: `{"collection":"c","key":"k"}`, Fault: fault.New(fault.Unavailable, fault.Script, "nor then")},
		}, Fault: failed("unavailable: nor then")},
		{Name: "retry_fatal", Group: "The standard library", Says: "nothing is tried again that is of no use,", Calls: []Call{
			{Name: "kv.get", Args: `{"collection":"c","key":"k"}`, Result: `{"key":"k","value":1,"version":1}`},
		}, Fault: &Fault{Kinds: []fault.Kind{fault.ScriptError}, Says: "never", Fatal: true}},
		{Name: "retry_deadline", Group: "The standard library", Says: "and no wait goes beyond the end of the run.", Calls: []Call{
			{Name: "kv.get", Args: `{"collection":"c","key":"k"}`, Fault: fault.New(fault.Unavailable, fault.Script, "not now")},
		}, Timeout: 30 * time.Minute, Fault: failed("unavailable: not now")},

		{Name: "module", Group: "Modules", Says: "A script imports modules of its app by their names, and modules import others.", Modules: []string{"greet", "words"}, Status: 200, Answer: `"hello, Ada"`},

		{Name: "limit_time", Group: "Limits", Says: "A run ends at its time limit.", Timeout: 200 * time.Millisecond, Fault: &Fault{Kinds: []fault.Kind{fault.Deadline}}},
		{Name: "limit_depth", Group: "Limits", Says: "Calls that are nested too deeply fail their run.", Fault: limit("nested too deeply")},
		{Name: "limit_memory", Group: "Limits", Says: "So does too much memory,", Fault: limit("memory")},
		{Name: "limit_memory_own", Group: "Limits", Says: "which may be less than the platform's own limit,", Limits: engine.Limits{Memory: 16 << 20}, Fault: limit("more than 16 MB of memory")},
		{Name: "limit_cpu", Group: "Limits", Says: "too much processor time,", Limits: engine.Limits{CPU: 50 * time.Millisecond}, Fault: limit("more than 50ms of processor time")},
		{Name: "limit_answer", Group: "Limits", Says: "and an answer that is too large.", Limits: engine.Limits{BodyBytes: 1000}, Fault: limit("the answer has 2000 bytes, more than 1000")},
		{Name: "limit_logs", Group: "Limits", Says: "Log lines beyond the limit are dropped, and counted.", Limits: engine.Limits{LogLines: 2}, Status: 204, Logs: []string{"info line 0", "info line 1", "warn 8 log lines over the limit were dropped "}},
	}
}

var jsonType = map[string]string{"Content-Type": "application/json"}
