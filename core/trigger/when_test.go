package trigger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

func order() *Change {
	return &Change{
		Kind: outbox.KindKV, Op: "update", Collection: "orders", Key: "o1",
		Data:     json.RawMessage(`{"total": 120.5, "n": 3, "paid": true, "tags": ["a", "b"], "customer": {"name": "Ada"}}`),
		Previous: json.RawMessage(`{"total": 7, "paid": false}`),
	}
}

func TestWhen(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]bool{
		"":                                       true,
		"true":                                   true,
		"event.op == 'update'":                   true,
		"event.op != 'update'":                   false,
		"event.topic == ''":                      true,
		"data.value.total > 100":                 true,
		"data.value.n == 3":                      true,
		"data.value.paid && !data.previous.paid": true,
		"data.value.paid":                        true,
		"'b' in data.value.tags":                 true,
		"data.value.customer.name.matches('^A')": true,
		"has(data.value.refund)":                 false,
		"data.value.refund > 1":                  false, // there is none
		"!(data.value.refund > 1)":               false,
		"data.value.total":                       false, // no bool

		"event.type == 'kv.update' && event.subject == 'orders/o1'":   true,
		"event.key == event.id && event.collection.startsWith('ord')": true,
		"data.value.tags.exists(t, t == 'z') || data.op == 'update'":  true,
	} {
		if err := CheckWhen(source); source != "" && err != nil {
			t.Errorf("%s: %v", source, err)
		}
		trigger := &tenant.Trigger{Filter: tenant.TriggerFilter{Collection: "orders", When: source}}
		if err := Takes(trigger, order(), nil); (err == nil) != want {
			t.Errorf("%s: %v, want %t", source, err, want)
		}
	}
}

func TestCheckWhen(t *testing.T) {
	t.Parallel()
	pad := func(n int) string { return "true" + strings.Repeat(" ", n-4) }
	if err := CheckWhen(pad(maxWhen)); err != nil {
		t.Error(err)
	}
	for source, words := range map[string]string{
		"event.colection == 'x'":   "line 1, column 6: undeclared reference to",
		"dta.value":                "undeclared reference to 'dta'",
		"event.op == 1":            "no matching overload",
		"event.op":                 "is of type string, not bool",
		"true &&":                  "Syntax error",
		"data.value.matches('a(')": "error parsing regexp",
		pad(maxWhen + 1):           "longer than 2000 bytes",
		strings.Repeat("(", 500):   "recursion",
		"data.x(":                  "line 1",
	} {
		err := CheckWhen(source)
		var wrong *tenant.Invalid
		if !errors.As(err, &wrong) || wrong.Field != "when" || !strings.Contains(wrong.Message, words) || strings.Contains(wrong.Message, "\n") {
			t.Errorf("%.40s: %v, want %q", source, err, words)
		}
	}
}

// An expression that would take for ever ends, and takes nothing.
func TestWhenIsBounded(t *testing.T) {
	t.Parallel()
	numbers, err := json.Marshal(make([]int, 3000))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{
		"data.all(a, data.all(b, a == b))",
		"data.map(a, data).size() > 0 && data.map(a, data.map(b, string(b) + 'x')).size() > 1",
	} {
		c := &Change{Kind: outbox.KindPubSub, Topic: "t", Data: numbers}
		is, err := c.meets(source)
		if is || err == nil || !strings.Contains(err.Error(), "cost limit") {
			t.Errorf("%s: %t, %v", source, is, err)
		}
	}
}

// Of a text all is paid for that is looked at, and of lists and objects what is within them: each of these would take seconds.
func TestWhenPaysForWhatItLooksAt(t *testing.T) {
	t.Parallel()
	inner := make([]any, 20)
	for i := range inner {
		inner[i] = make([]int, 50)
	}
	words, names := make([]string, 900), map[string]any{}
	for i := range words {
		words[i] = fmt.Sprintf("%020d", i)
		names[words[i]] = inner
		if i >= 20 {
			names[words[i]] = i
		}
	}
	data, err := json.Marshal(map[string]any{"text": strings.Repeat("é", 100_000), "list": make([]int, 3000), "deep": inner, "few": make([]int, 100), "words": words, "names": names})
	if err != nil {
		t.Fatal(err)
	}
	for source, ends := range map[string]bool{
		"data.list.all(x, data.deep == data.deep)":                                                 false,
		"data.list.all(x, data == data)":                                                           false,
		"data.list.all(x, {'a': data.deep} == {'a': data.deep})":                                   false,
		"data.list.all(x, [data.deep] != [data.text])":                                             false,
		"data.list.all(x, !(data.deep in data.deep))":                                              false,
		"data.list.all(x, size(data.text) > 0)":                                                    false,
		"data.list.all(x, size(data.text + data.text) > 0)":                                        false,
		"data.list.all(x, bytes(data.text) != b'')":                                                false,
		"data.list.all(x, !(data.text in {'a': 1}))":                                               false,
		"data.list.all(x, timestamp('2026-01-01T00:00:00Z').getHours('Europe/Berlin') < 25)":       false,
		"data.few.all(x, timestamp('2026-01-01T00:00:00Z').getHours('Europe/Berlin') < 25)":        false,
		"data.words.all(x, !(data.text in data.words))":                                            false,
		"data.few.all(x, data.words[0] in data.words && data.words[0] in data.names)":              true,
		"data.words.all(x, x in data.names)":                                                       true,
		"data.list.all(x, data.deep != [] && data.text != '')":                                     true,
		"data == data && size(data.text) > 0 && data.few.all(x, x == 0.0 && data.few == data.few)": true,
		"timestamp('2026-01-01T00:00:00Z').getHours('Europe/Berlin') == 1":                         true,
	} {
		is, err := (&Change{Kind: outbox.KindPubSub, Topic: "t", Data: data}).meets(source)
		if is != ends || (err == nil) != ends || err != nil && !strings.Contains(err.Error(), "cost limit") {
			t.Errorf("%s: %t, %v", source, is, err)
		}
	}
}

// Patterns that are short to write and take megabytes are refused, where they are written and where they come with the data.
func TestWhenPatterns(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x{1000}", 30)
	if err := CheckWhen("data.text.matches('x{900}')"); err != nil {
		t.Error(err)
	}
	if err := CheckWhen("data.text.matches('" + large + "')"); err == nil {
		t.Error("a large pattern passes")
	}
	for pattern, want := range map[string]bool{"x+": true, large: false, strings.Repeat("x?", 400) + "y": false} {
		data, _ := json.Marshal(map[string]string{"text": strings.Repeat("x", 1000), "pattern": pattern})
		is, err := (&Change{Kind: outbox.KindPubSub, Topic: "t", Data: data}).meets("data.text.matches(data.pattern)")
		if is != want {
			t.Errorf("%.20s: %t, %v", pattern, is, err)
		}
	}
}

// However many expressions there are, those that are kept are not more than maxCache.
func TestProgramsAreBounded(t *testing.T) {
	for i := range maxCache + 1 {
		if _, err := program(fmt.Sprint("data == ", i)); err != nil {
			t.Fatal(err)
		}
	}
	programs.RLock()
	defer programs.RUnlock()
	if len(programs.bySource) != maxCache {
		t.Errorf("%d programs", len(programs.bySource))
	}
}

func BenchmarkMatch(b *testing.B) {
	for name, when := range map[string]string{"pattern": "", "expression": "event.op == 'update' && data.value.total > 100"} {
		s, app := configured(tenant.Trigger{Kind: "kv", Enabled: true, Filter: tenant.TriggerFilter{Collection: "orders", When: when}})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(Match(s, app.ID, order(), nil)) != 1 {
					b.Fatal("not taken")
				}
			}
		})
	}
	s, app := configured()
	b.Run("none", func(b *testing.B) {
		c := order()
		for b.Loop() {
			Match(s, app.ID, c, nil)
		}
	})
	b.Run("too much", func(b *testing.B) {
		numbers, _ := json.Marshal(make([]int, 3000))
		c := &Change{Kind: outbox.KindPubSub, Topic: "t", Data: numbers}
		for b.Loop() {
			if _, err := c.meets("data.all(a, data.all(b, a == b))"); err == nil {
				b.Fatal("it ended")
			}
		}
	})
}

// What would take a hundred times its size in memory is not looked into.
func TestWhenOfBombs(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]bool{
		"[" + strings.Repeat("0,", 90_000) + "0]":         true,
		"[" + strings.Repeat("0,", 100_000) + "0]":        false,
		strings.Repeat("[", 64) + strings.Repeat("]", 64): true,
		strings.Repeat("[", 65) + strings.Repeat("]", 65): false,
		`{"a": 1, "a": 2}`: false, // which of them is a matter of the reader
		strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60): true,
	} {
		c := &Change{Kind: outbox.KindPubSub, Topic: "t", Data: json.RawMessage(data)}
		if is, err := c.meets("[data].size() == 1"); is != want || (err == nil) != want {
			t.Errorf("%.20s of %d bytes: %t, %v", data, len(data), is, err)
		}
	}
}

// Whoever asks is told of expressions that fail, and of no others: those take nothing.
func TestFailingExpressions(t *testing.T) {
	t.Parallel()
	of := func(name, when string) tenant.Trigger {
		return tenant.Trigger{Name: name, Kind: "kv", Filter: tenant.TriggerFilter{Collection: "*", When: when}, Enabled: true}
	}
	other := of("other", "data.value.none > 1")
	other.Filter.Collection = "others"
	s, app := configured(of("takes", "data.value.total > 1"), of("does not", "data.value.total > 1000"), of("no field", "data.value.none > 1"),
		of("no number", "data.value.total > 'x'"), other)
	c := &Change{Kind: outbox.KindKV, Op: "update", Collection: "orders", Data: json.RawMessage(`{"total": 120}`)}
	var told []string
	unfit := func(t *tenant.Trigger, of *Change, err error) {
		if of == c && err != nil {
			told = append(told, t.Name)
		}
	}
	if got := names(Match(s, app.ID, c, unfit)); got != "takes" || strings.Join(told, ", ") != "no field, no number" {
		t.Errorf("%s, and %q fail", got, told)
	}
	told = nil
	for _, x := range s.Triggers(app.ID, "kv") {
		if err := Takes(x, c, unfit); (err == nil) != (x.Name == "takes") {
			t.Errorf("%s: %v", x.Name, err)
		}
	}
	if strings.Join(told, ", ") != "no field, no number" {
		t.Errorf("%q fail", told)
	}
}

// An expression that does not look at the data of an event does not fail where that is no JSON.
func TestWhenDataIsNoJSON(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "<a/>", "{"} {
		c := &Change{Kind: outbox.KindSource, Source: "s", Topic: "t", Data: json.RawMessage(data), ContentType: "text/plain"}
		for source, want := range map[string]string{
			"event.type == 't'": "", "data == 't' || event.source == 's'": "",
			"data.a == 1": "read the data of the event", "has(data.a)": "read the data of the event", "data == null": "read the data of the event",
		} {
			is, err := c.meets(source)
			if is != (want == "") || (err == nil) != is || !is && !strings.Contains(err.Error(), want) {
				t.Errorf("%q, %s: %t, %v", data, source, is, err)
			}
		}
	}
}
