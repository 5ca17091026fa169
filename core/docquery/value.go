package docquery

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Rank is a type of values, in the order in which values of different types are sorted.
type Rank int

// The ranks. The database has them from doc_rank, see migrations.
const (
	Missing Rank = iota
	Null
	Bool
	Number
	Time // a text in the form of RFC 3339, which is a moment
	Text
	Other // a list or an object
)

// Type is what an index of such values is of.
func (r Rank) Type() string {
	switch r {
	case Number:
		return "number"
	case Bool:
		return "bool"
	case Time:
		return "time"
	default:
		return "text"
	}
}

// sortedText is how many characters of a text count when it is sorted.
const sortedText = 256

// Value is one value of a document or a query. Values are ordered by Rank, then Num, then Text.
type Value struct {
	Rank Rank
	Num  string // a decimal number: of a number itself, 0 or 1 of a bool, nanoseconds since 1970 of a time
	Text string // of texts and times, whole
}

// nothing is where a document has no value.
var nothing = Value{Rank: Missing, Num: "0"}

// valueOf takes what decode has read.
func valueOf(v any) Value {
	switch v := v.(type) {
	case nil:
		return Value{Rank: Null, Num: "0"}
	case bool:
		if v {
			return Value{Rank: Bool, Num: "1"}
		}
		return Value{Rank: Bool, Num: "0"}
	case json.Number:
		return Value{Rank: Number, Num: v.String()}
	case string:
		if num, is := moment(v); is {
			return Value{Rank: Time, Num: num, Text: v}
		}
		return Value{Rank: Text, Num: "0", Text: v}
	}
	return Value{Rank: Other, Num: "0"}
}

// rfc3339 is what doc_time in the database takes, so that both tell times from texts in one way.
var rfc3339 = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]` +
	`(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`)

func moment(s string) (num string, is bool) {
	if len(s) < 20 || len(s) > 35 || s[:4] == "0000" || !rfc3339.MatchString(s) {
		return "", false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil { // a day that its month does not have
		return "", false
	}
	sum := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(1e9))
	return sum.Add(sum, big.NewInt(int64(t.Nanosecond()))).String(), true
}

// Compare orders values as sorting does: of long texts only the beginning counts.
func Compare(a, b Value) int {
	if c := cmp.Compare(a.Rank, b.Rank); c != 0 {
		return c
	}
	if c := compareNumbers(a.Num, b.Num); c != 0 {
		return c
	}
	return strings.Compare(Sorted(a.Text), Sorted(b.Text))
}

// Sorted is the part of a text that counts when it is sorted.
func Sorted(s string) string {
	if len(s) <= sortedText {
		return s
	}
	n := 0
	for i := range s {
		if n++; n > sortedText {
			return s[:i]
		}
	}
	return s
}

func compareNumbers(a, b string) int {
	if a == b {
		return 0
	}
	x, _ := new(big.Rat).SetString(a)
	y, _ := new(big.Rat).SetString(b)
	return x.Cmp(y)
}

// Path is where in a document a value is, from the outside in.
type Path []string

func (p Path) String() string { return strings.Join(p, ".") }

// ParsePath reads a path such as "address.city": up to five names of letters, digits, - and _, with dots between them. A number is also
// a place in a list, counted from 0.
func ParsePath(s string) (Path, error) {
	if len(s) > MaxSegments*(MaxSegment+1) {
		return nil, fmt.Errorf("a path has at most %d names of at most %d bytes", MaxSegments, MaxSegment)
	}
	path := Path(strings.Split(s, "."))
	if len(path) > MaxSegments {
		return nil, fmt.Errorf("the path %q has more than %d names", s, MaxSegments)
	}
	for _, name := range path {
		if name == "" || len(name) > MaxSegment || !utf8.ValidString(name) {
			return nil, fmt.Errorf("the names of the path %q must have 1 to %d bytes", strings.ToValidUTF8(s, "?"), MaxSegment)
		}
		for i, c := range name {
			if !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '_' && (c != '-' || i == 0) {
				return nil, fmt.Errorf("the path %q has names of more than letters, digits, _ and -: %q", s, c)
			}
		}
	}
	return path, nil
}

// In returns the value at the path of a document that Check has passed.
func (p Path) In(document []byte) Value {
	v := p.find(document)
	switch v.Kind() {
	case 'n':
		return valueOf(nil)
	case 't', 'f':
		return valueOf(v.Kind() == 't')
	case '0':
		return valueOf(json.Number(v))
	case '"':
		return valueOf(string(text(v)))
	case '{', '[':
		return Value{Rank: Other, Num: "0"}
	}
	return nothing
}

// find returns what is at the path of a document, as a part of it; nil: nothing is. It makes values of nothing else in the document.
func (p Path) find(document []byte) jsontext.Value {
	d := jsontext.NewDecoder(bytes.NewBuffer(document), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for _, name := range p {
		if !enter(d, name) {
			return nil
		}
	}
	v, err := d.ReadValue()
	if err != nil {
		return nil
	}
	return v
}

// text is what a string says.
func text(v jsontext.Value) []byte {
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1]
	}
	b, _ := jsontext.AppendUnquote(nil, v)
	return b
}

// enter reads up to the value that an object or a list has under a name.
func enter(d *jsontext.Decoder, name string) bool {
	switch d.PeekKind() {
	case '{':
		_, err := d.ReadToken()
		for err == nil && d.PeekKind() == '"' {
			var key jsontext.Token
			if key, err = d.ReadToken(); err == nil && key.String() == name {
				return true
			}
			err = d.SkipValue()
		}
	case '[':
		n, err := strconv.ParseInt(name, 10, 32)
		if err != nil || n < 0 {
			return false
		}
		_, err = d.ReadToken()
		for ; err == nil && n > 0 && d.PeekKind() != ']'; n-- {
			err = d.SkipValue()
		}
		return err == nil && n == 0 && d.PeekKind() != ']'
	}
	return false
}
