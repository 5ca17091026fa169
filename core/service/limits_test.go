package service_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/docquery"
	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/outbound"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/secret"
	core "github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/mail"
	"github.com/picloud/picloud/sdk/service"
)

// bound is what a limit of the reference is in the code, and a call with n of it.
type bound struct {
	most int64
	call func(n int) (what, args string)
	// elsewhere names the test that drives it to its bound and one past it, where that takes more than a call.
	elsewhere string
}

// Every limit of the reference is that of the code; a call at it succeeds, and one past it is refused with the code that the
// reference says.
func TestLimits(t *testing.T) {
	t.Parallel()
	x := func(n int) string { return strings.Repeat("x", n) }
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	f := func(what, format string, of func(n int) any) func(int) (string, string) {
		return func(n int) (string, string) { return what, fmt.Sprintf(format, of(n)) }
	}
	text := func(n int) any { return x(n) }
	number := func(n int) any { return n }
	filter := func(of func(n int) any) func(int) (string, string) {
		return f("docs.find", `{"collection":"c","filter":%s}`, of)
	}
	document := func(of func(n int) any) func(int) (string, string) {
		return f("docs.create", `{"collection":"c","data":%s}`, of)
	}
	send := func(format string, of func(n int) any) func(int) (string, string) {
		return f("queue.send", `{"queue":"mail","messages":[`+format+`]}`, of)
	}
	bounds := map[string]bound{
		"kv, docs, files: the name of a collection": {most: data.MaxName, call: f("docs.list", `{"collection":%q}`, text)},
		"kv, files: a page of a list":               {most: core.MaxListed, call: f("files.list", `{"collection":"c","limit":%d}`, number)},

		"kv: a key, or a prefix of keys": {most: data.MaxKey, call: f("kv.get", `{"collection":"c","key":%q}`, text)},
		"kv: a value":                    {most: data.MaxValue, call: f("kv.set", `{"collection":"c","key":"k","value":%q}`, func(n int) any { return x(n - 2) })},
		"kv: objects and lists in one another": {most: data.MaxDepth, call: f("kv.set", `{"collection":"c","key":"k","value":%s}`, func(n int) any {
			return strings.Repeat(`[{"]\\\"":`, n/2) + strings.Repeat("[", n%2) + "1" + strings.Repeat("]", n%2) + strings.Repeat("}]", n/2)
		})},
		"kv: a time to live":            {most: core.MaxTTL.Milliseconds(), call: f("kv.set", `{"collection":"c","key":"k","value":1,"ttl_ms":%d}`, number)},
		"kv: what is added to a number": {most: 1_000_000_000_000_000, call: f("kv.increment", `{"collection":"n","key":"k","by":%d}`, number)},

		"docs: a document": {most: docquery.MaxDocument, call: document(func(n int) any { return `{"a":"` + x(n-8) + `"}` })},
		"docs: objects and lists in one another": {most: docquery.MaxDepth, call: document(func(n int) any {
			return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
		})},
		"docs: values, names and brackets of a document": {most: docquery.MaxTokens, call: document(func(n int) any { return `{"a":` + list(n-5, "1") + `}` })},
		"docs: a number":                {most: docquery.MaxNumber, call: document(func(n int) any { return `{"a":` + strings.Repeat("1", n) + `}` })},
		"docs: a page of what is found": {most: docquery.MaxLimit, call: f("docs.find", `{"collection":"c","limit":%d}`, number)},
		"docs: a filter":                {most: docquery.MaxFilter, call: filter(func(n int) any { return `{"a":"` + x(n-8) + `"}` })},
		"docs: conditions of a filter, and parts of its $and and $or": {most: docquery.MaxConditions, call: filter(func(n int) any {
			fields := map[string]int{}
			for i := range n {
				fields[fmt.Sprint("p", i)] = i
			}
			b, _ := json.Marshal(fields) // numbers always encode
			return string(b)
		})},
		"docs: $and and $or in one another": {most: docquery.MaxNested, call: filter(func(n int) any {
			return strings.Repeat(`{"$or":[`, n) + `{"a":1}` + strings.Repeat(`]}`, n)
		})},
		"docs: values of one $in": {most: docquery.MaxIn, call: filter(func(n int) any { return `{"a":{"$in":` + list(n, "1") + `}}` })},
		"docs: a $regex":          {most: docquery.MaxRegex, call: f("docs.find", `{"collection":"empty","filter":{"a":{"$regex":%q}}}`, text)},
		"docs: paths of an order": {most: docquery.MaxSort, call: f("docs.find", `{"collection":"c","sort":%s}`, func(n int) any {
			var paths []string
			for i := range n {
				paths = append(paths, fmt.Sprint("p", i))
			}
			b, _ := json.Marshal(paths) // texts always encode
			return string(b)
		})},
		"docs: levels of a path":                                {most: docquery.MaxSegments, call: filter(func(n int) any { return `{"a` + strings.Repeat(".a", n-1) + `":1}` })},
		"docs: one level of a path":                             {most: docquery.MaxSegment, call: filter(func(n int) any { return `{"` + x(n) + `":1}` })},
		"docs: indexes of a collection":                         {most: data.MaxDocIndexes, elsewhere: "core/postgres/doc_test.go: TestDocIndex"},
		"docs: documents that a find looks at without an index": {most: 10_000, elsewhere: "core/postgres/doc_test.go: TestDocsUnserved"},

		"files: a name": {most: core.MaxFileName, call: f("files.create", `{"collection":"c","name":%q,"data":""}`, text)},
		"files: a file that is written or read at once, or a part of one": {most: core.MaxFilePart, call: f("files.create", `{"collection":"c","name":"a","data":%q}`, text)},
		"files: a file":              {most: core.MaxFile, elsewhere: "core/service/files_test.go: TestFilesRefusals"},
		"files: all files of an app": {most: core.FilesQuota, elsewhere: "core/service/files_test.go: TestFilesQuota"},

		"secrets: a name":  {most: secret.MaxName, call: f("secrets.get", `{"name":%q}`, func(n int) any { return x(n) })},
		"secrets: a value": {most: secret.MaxValue, call: f("secrets.set", `{"name":"A","value":%q}`, func(n int) any { return x(n - 2) })},
		"secrets: texts, lines of texts, and numbers of a value": {most: secret.MaxParts, call: f("secrets.set", `{"name":"A","value":[%s]}`, func(n int) any {
			lines := make([]string, n-1) // and the text itself
			for i := range lines {
				lines[i] = fmt.Sprintf("line %03d", i)
			}
			return fmt.Sprintf("%q", strings.Join(lines, "\n"))
		})},
		"secrets: all secrets of an app": {most: secret.MaxPerApp, elsewhere: "core/postgres/secret_test.go: TestSecretLimits"},

		"http: a URL": {most: outbound.MaxURL, elsewhere: "core/outbound/request_test.go: TestInjection"},
		"http: headers, of a request and of its answer": {most: outbound.MaxHeaders, elsewhere: "core/outbound/request_test.go: TestInjection"},
		"http: a body, of a request and of its answer":  {most: outbound.MaxBody, elsewhere: "core/outbound/request_test.go: TestInjection"},
		"http: time":      {most: outbound.MaxTimeout.Milliseconds(), elsewhere: "core/outbound/request_test.go: TestInjection"},
		"http: redirects": {most: 5, elsewhere: "core/outbound/request_test.go: TestRedirects"},

		"pubsub: a topic":   {most: tenant.MaxTopic, call: f("pubsub.publish", `{"topic":%q,"message":1}`, text)},
		"pubsub: a message": {most: core.MaxPayload, call: f("pubsub.publish", `{"topic":"a","message":%q}`, func(n int) any { return x(n - 2) })},
		"pubsub: a message times the triggers that take it": {most: core.MaxPublished, elsewhere: "core/service/pubsub_test.go: TestPublishRefusals"},

		"sink: a message": {most: core.MaxPayload, call: f("sink.send", `{"sink":"out","message":%q}`, text)},
		"sink: a type":    {most: core.MaxType, call: f("sink.send", `{"sink":"out","message":1,"type":%q}`, text)},
		"email: a message, as JSON with attachments in base64": {most: mail.MaxBytes, call: func(n int) (string, string) {
			begin, end := `{"to":"a@b.c","subject":"s","text":"`, `"}`
			return "email.send", begin + x(n-len(begin)-len(end)) + end
		}},
		"email: addresses in to, cc and bcc": {most: mail.MaxRecipients, call: f("email.send", `{"to":%s,"subject":"s","text":"t"}`, func(n int) any { return list(n, `"a@b.c"`) })},
		"email: attachments":                 {most: mail.MaxAttachments, call: f("email.send", `{"to":"a@b.c","subject":"s","text":"t","attachments":%s}`, func(n int) any { return list(n, `{"name":"a"}`) })},
		"email: a subject":                   {most: mail.MaxSubject, call: f("email.send", `{"to":"a@b.c","subject":%q,"text":"t"}`, text)},

		"queue: messages of one call":          {most: core.MaxMessages, call: f("queue.send", `{"queue":"mail","messages":%s}`, func(n int) any { return list(n, "{}") })},
		"queue, invoke: the data of a message": {most: core.MaxPayload, call: send(`{"data":%q}`, text)},
		"queue, invoke: a key":                 {most: tenant.MaxKey, call: send(`{"delivery":{"ordering_key":%q}}`, text)},
		"queue, invoke: a delay":               {most: tenant.MaxDelay.Milliseconds(), call: send(`{"delivery":{"delay_ms":%d}}`, number)},
		"queue, invoke: attempts":              {most: tenant.MaxAttempts, call: send(`{"delivery":{"max_attempts":%d}}`, number)},
	}
	b := setupLimits(t)
	for _, l := range service.Limits() {
		name := l.Of + ": " + l.What
		d, known := bounds[name]
		delete(bounds, name)
		switch {
		case !known || d.most != l.Most:
			t.Errorf("%s: the reference says %d, the code %d", name, l.Most, d.most)
			continue
		case d.elsewhere != "":
			file, test, _ := strings.Cut(d.elsewhere, ": ")
			source, err := os.ReadFile(filepath.Join("../..", file))
			if err != nil || !strings.Contains(string(source), "func "+test+"(") {
				t.Errorf("%s: there is no test %s: %v", name, d.elsewhere, err)
			}
			continue
		}
		what, args := d.call(int(l.Most))
		if _, err := b.ask(t, what, args); err != nil {
			t.Errorf("%s, at its bound: %v", name, err)
		}
		b.entries = nil
		what, args = d.call(int(l.Most) + 1)
		b.refused(t, what, args, fault.Kind(l.Code), "")
	}
	for name := range bounds {
		t.Errorf("the reference lacks %s", name)
	}
}

// setupLimits is setup with all that has a database.
func setupLimits(t *testing.T) *bundle {
	t.Helper()
	pool := coretest.DB(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO nodes (epoch, name) VALUES (7, 'n')`); err != nil {
		t.Fatal(err)
	}
	contents, err := files.Open(filepath.Join(t.TempDir(), "files"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := contents.Close(); err != nil {
			t.Error(err)
		}
	})
	b := subscribed(t, topic("all", "*"))
	b.email = "a@b.org"
	b.app.Sinks = []tenant.Sink{{ID: uuid.New(), App: b.app.ID, Name: "out", Kind: "http", Version: 1, Timeout: time.Second, MaxAttempts: 5}}
	b.kv, b.docs, b.files, b.contents = postgres.NewKVStore(pool), postgres.NewDocStore(pool), postgres.NewFileStore(pool), contents
	b.reload()
	return b
}
