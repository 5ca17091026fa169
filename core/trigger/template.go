package trigger

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// Input is what the templates of keys are filled from. It never changes.
type Input struct {
	HTTP *event.HTTP // nil: not a request
	Body []byte
}

// CheckTemplate says what is wrong with a template: it may name {body.customer.id} and, if it is over requests,
// {params.id}, {query.page} and {headers.x-customer}.
func CheckTemplate(template string, requests bool) error {
	places, words := []string{"body"}, "is not {body.path}: a message has nothing else"
	if requests {
		places, words = append(places, "params", "query", "headers"), "is none of {params.name}, {query.name}, {headers.name}, {body.path}"
	}
	return scan(template, func(string) {}, func(place, name string) error {
		if name == "" || !slices.Contains(places, place) {
			return fmt.Errorf("{%s} %s", strings.TrimSuffix(place+"."+name, "."), words)
		}
		return nil
	})
}

// Expand fills a template from the event. Text outside of braces stays. Where the event lacks a value that the template
// names, the result is empty: the event has no such key.
func (in *Input) Expand(template string) (string, error) {
	var b strings.Builder
	missing := false
	err := scan(template, func(text string) { b.WriteString(text) }, func(place, name string) error {
		v := in.value(place, name)
		missing = missing || v == ""
		b.WriteString(v)
		return nil
	})
	switch {
	case err != nil || missing || template == "":
		return "", err
	case b.Len() > tenant.MaxKey:
		return "", fmt.Errorf("the key that %q makes of this event is longer than %d bytes", template, tenant.MaxKey)
	}
	return strings.ToValidUTF8(strings.ReplaceAll(b.String(), "\x00", "�"), "�"), nil
}

// scan calls text and place for the parts of a template, in order.
func scan(template string, text func(string), place func(place, name string) error) error {
	for rest := template; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		text(before)
		if !found {
			return nil
		}
		inner, tail, closed := strings.Cut(after, "}")
		if !closed {
			return fmt.Errorf("template %q lacks a closing brace", template)
		}
		where, name, _ := strings.Cut(inner, ".")
		if err := place(where, name); err != nil {
			return err
		}
		rest = tail
	}
	return nil
}

func (in *Input) value(place, name string) string {
	switch place {
	case "body":
		return in.field(name)
	case "params", "query", "headers":
		if in.HTTP == nil {
			return ""
		}
	}
	switch place {
	case "params":
		for _, p := range in.HTTP.Params {
			if p.Name == name {
				return p.Value
			}
		}
	case "query":
		values, _ := url.ParseQuery(in.HTTP.Query) // what can be read of a malformed query
		return values.Get(name)
	case "headers":
		for _, h := range in.HTTP.Headers {
			if strings.EqualFold(h.Name, name) {
				return h.Value
			}
		}
	}
	return ""
}

// field returns a string, number or boolean of the JSON body by its dotted path. It makes no values of what is on the way: six megabytes of
// empty objects would take half a gigabyte.
func (in *Input) field(path string) string {
	d := jsontext.NewDecoder(bytes.NewReader(in.Body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	value, err := find(d, strings.Split(path, "."))
	if err != nil {
		return "" // it is no JSON
	}
	return value
}

// find reads one value, and returns what is in it under a path. Of two members of one name the last one counts.
func find(d *jsontext.Decoder, path []string) (found string, err error) {
	kind := d.PeekKind()
	switch {
	case len(path) == 0 && (kind == '"' || kind == '0' || kind == 't' || kind == 'f'):
		token, err := d.ReadToken()
		return token.String(), err
	case len(path) == 0 || kind != '{' && kind != '[':
		return "", d.SkipValue()
	}
	wanted, err := strconv.Atoi(path[0])
	if err != nil {
		wanted = -1
	}
	if _, err := d.ReadToken(); err != nil {
		return "", err
	}
	for i := 0; d.PeekKind() != '}' && d.PeekKind() != ']'; i++ {
		is := i == wanted
		if kind == '{' {
			name, err := d.ReadToken()
			if err != nil {
				return "", err
			}
			is = name.String() == path[0]
		}
		if !is {
			err = d.SkipValue()
		} else {
			found, err = find(d, path[1:])
		}
		if err != nil {
			return "", err
		}
	}
	_, err = d.ReadToken()
	return found, err
}
