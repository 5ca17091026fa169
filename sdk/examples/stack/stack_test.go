package main

import (
	"os"
	"testing"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/scripttest"
)

func source(hash, text string, modules ...engine.Module) engine.Bundle {
	return engine.Bundle{Hash: hash, Script: hash, Files: []engine.File{{Name: hash + ".stack", Data: []byte(text)}}, Modules: modules}
}

func TestConformance(t *testing.T) {
	suite, err := os.ReadFile("testdata/suite.stack")
	if err != nil {
		t.Fatal(err)
	}
	shared := engine.Module{Name: "shared", Files: []engine.File{{Name: "shared.stack", Data: []byte(": after ( n -- bytes ) body swap body length slice ;")}}}
	enginetest.Run(t, enginetest.Suite{
		New:    New,
		Bundle: source("suite", string(suite)),
		Broken: source("broken", ": one 1 ;\n  \"é\" two\n"), Line: 2, Column: 8,
		Importer: source("importer", "import app/shared\n5 after { } 200 respond\n", shared),
	})
}

func TestContract(t *testing.T) {
	const messages = "of the services the example has messages only"
	const own = "a language has a library of its own, or none"
	scripttest.Run(t, scripttest.Suite{New: New, Extension: ".stack", Scripts: os.DirFS("testdata"), Without: map[string]string{
		"kv": messages, "kv_list": messages, "kv_conflict": messages, "files": messages, "files_large": messages,
		"call": messages, "call_failed": messages, "publish_ephemeral": messages, "queue_depth": messages, "publish": messages, "publish_refused": messages,
		"sink": messages, "sink_missing": messages, "email": messages,
		"docs": messages, "docs_find": messages, "docs_missing": messages,
		"http": messages, "http_error": messages, "http_methods": messages, "secrets": messages,
		"std_encode": own, "std_wrong": own, "std_url": own, "std_hash": own, "std_random": own, "std_csv": own, "std_regex": own, "std_time": own,
		"retry": own, "retry_last": own, "retry_fatal": own, "retry_deadline": own,
	}})
}

func TestDiagnostics(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text         string
		line, column int
		message      string
	}{
		{"1 2 plus", 1, 5, `there is no word "plus"`},
		{"true if\n  1", 1, 8, "then is missing for what begins before this"},
		{"then", 1, 1, `there is no word "then"`},
		{"\n \"open", 2, 2, "the text has no end"},
		{`"a"b`, 1, 1, "white space is missing behind the text"},
		{"1 ( open", 1, 3, "the comment has no end"},
		{"1x", 1, 1, "1x is no number and no text: invalid character 'x' after top-level value"},
		{": a 1 ;\n: a 2 ;", 2, 1, `there is a word "a" already`},
		{"true if : a 1 ; then", 1, 9, "a definition stands in nothing else"},
		{"1 -> 5", 1, 6, `"5" is no name`},
		{"import greet", 1, 8, `"greet" is neither app/… nor another file of the script, ./…`},
		{"\xff", 1, 1, "the source is not UTF-8"},
	} {
		loaded, err := New().Load(t.Context(), source("a", c.text))
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || len(loaded.Diagnostics) != 1 {
			t.Errorf("%q: %+v", c.text, err)
			continue
		}
		if d := loaded.Diagnostics[0]; d.File != "a.stack" || d.Line != c.line || d.Column != c.column || d.Message != c.message {
			t.Errorf("%q: %+v", c.text, d)
		}
	}
}

// Files of one script and modules have their definitions for whoever imports them, once.
func TestImports(t *testing.T) {
	t.Parallel()
	b := source("a", "import ./b.stack import ./c.stack two three +")
	b.Files = append(b.Files, engine.File{Name: "b.stack", Data: []byte(": two 2 ;")},
		engine.File{Name: "c.stack", Data: []byte("import ./b.stack : three two 1 + ;")})
	if got := answer(t, b); got != "5" {
		t.Errorf("%s", got)
	}
	for message, text := range map[string]string{
		`a source that others import has definitions only`: "1",
		`./b.stack imports itself, through others`:         "import ./b.stack",
	} {
		b.Files[1].Data = []byte(text)
		if _, err := New().Load(t.Context(), b); err == nil || fault.From(err).Message[len("b.stack:1:1: "):] != message &&
			fault.From(err).Message[len("b.stack:1:8: "):] != message {
			t.Errorf("%s: %v", message, err)
		}
	}
}

// answer runs a bundle and returns what it answers, or how it failed.
func answer(t *testing.T, b engine.Bundle) string {
	t.Helper()
	client := enginetest.Dial(t, New())
	if _, err := client.Load(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	var a enginetest.Answer
	if err := client.Invoke(t.Context(), enginetest.Request(t, b.Hash, "abc"), &a); err != nil {
		f := fault.From(err)
		return f.Message + "\n" + f.Detail
	}
	return a.Body()
}

func TestLanguage(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"1 2 swap over drop -":                                                     "1",
		"7 3 mod 2 / 0.5 = ":                                                       "true",
		"5 begin dup 1 > while 1 - repeat":                                         "1",
		"0 begin 1 + dup 5 >= until":                                               "5",
		`{ "b" 1 "a" 2 } -> m [ m each next ] "," join`:                            `"a,b"`,
		`[ "b" "a" ] sort [ "c" ] + 3 append`:                                      `["a","b","c",3]`,
		`"a b" " " split length body 1 get +`:                                      "100",
		"[ [ 1 ] { \"a\" null } ] dup =":                                           "true",
		": a -> x x 0 > if x 1 - a x + else 0 then ; 4 a":                          "10",
		"1 try drop [ ] swap append":                                               "[null]",
		": bad drop 1 0 / ; 5 try bad \"message\" get [ ] swap append swap append": `["division by zero",5]`,
		": bad 1 0 / ;\nbad":                                                       "division by zero\na.stack:1:11\na.stack:2:1",
		"drop":                                                                     "the stack is empty\na.stack:1:1",
		"1 if 2 then":                                                              "this takes a boolean, not a number\na.stack:1:3",
		"1 2":                                                                      "2 values are left on the stack: an answer is one, such as a list\n",
		"1 [ drop ]":                                                               "the words in the brackets take what was before them\na.stack:1:3",
		"[ ] 2000 each drop -> x [ x ] next":                                       "what the script returned cannot be sent: lists and maps are nested too deeply\n",
	} {
		if got := answer(t, source("a", text)); got != want {
			t.Errorf("%s: %q, not %q", text, got, want)
		}
	}
}
