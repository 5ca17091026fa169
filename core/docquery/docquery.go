// Package docquery is the language in which scripts ask for documents: filters, orders and the values that they compare. It is pure:
// core/service reads queries with it, core/postgres turns them into statements, and both agree on what a value is.
package docquery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of documents and queries.
const (
	MaxDocument = 1 << 20 // of a document, in bytes of JSON
	MaxDepth    = 64      // of objects and lists in one another
	MaxTokens   = 100_000 // of a document: values, names and brackets
	MaxNumber   = 64      // of a number, in characters
	MaxExponent = 308     // of a number, either way: as far as scripts count

	MaxFilter     = 64 << 10 // of a filter, in bytes of JSON
	MaxConditions = 100
	MaxNested     = 8   // of $and and $or in one another
	MaxIn         = 200 // values of one $in
	MaxRegex      = 1 << 10
	MaxProgram    = 2000        // steps that a $regex is compiled to
	MaxEffort     = 200_000_000 // of the patterns of one query, in steps of their programs times bytes of text: seconds at worst
	MaxSort       = 3
	MaxLimit      = 200
	DefaultLimit  = 100

	MaxSegments = 5
	MaxSegment  = 64 // in bytes
)

// Check says what is wrong with a document, or with any JSON that is to be stored as jsonb. The database would write a number of few
// characters out into many, refuses U+0000, and takes the last of two fields with one name.
func Check(document []byte) error {
	if len(document) > MaxDocument {
		return fmt.Errorf("it takes %d bytes as JSON, more than %d: divide it, or keep large parts as files", len(document), MaxDocument)
	}
	zeros := 0 // that the database writes for exponents
	return walk(document, func(d *jsontext.Decoder, token jsontext.Token) error {
		switch token.Kind() {
		case '"':
			if strings.IndexByte(token.String(), 0) >= 0 {
				return fmt.Errorf("%s: a text holds U+0000, which cannot be stored", place(d))
			}
		case '0':
			exponent, err := checkNumber(token.String())
			if err != nil {
				return fmt.Errorf("%s: %w", place(d), err)
			}
			if zeros += exponent; zeros > MaxDocument {
				return fmt.Errorf("its numbers with exponents take more than %d bytes when they are written out: keep some as text", MaxDocument)
			}
		}
		return nil
	})
}

// Bounded says whether JSON is more than a program should hold in memory as values: a megabyte of empty objects takes 85 there.
func Bounded(document []byte) error {
	return walk(document, func(*jsontext.Decoder, jsontext.Token) error { return nil })
}

// walk calls each for each token of one JSON value, which has no two fields of a name in an object, and keeps MaxTokens and MaxDepth.
func walk(document []byte, each func(d *jsontext.Decoder, token jsontext.Token) error) error {
	d := jsontext.NewDecoder(bytes.NewReader(document))
	for n := 0; ; n++ {
		whole := n > 0 && d.StackDepth() == 0
		token, err := d.ReadToken()
		if errors.Is(err, io.EOF) && whole {
			return nil
		}
		if err != nil {
			return readable(err)
		}
		switch {
		case whole:
			return errors.New("something follows it")
		case n >= MaxTokens:
			return fmt.Errorf("it has more than %d values, names and brackets", MaxTokens)
		case d.StackDepth() > MaxDepth:
			return fmt.Errorf("it is nested deeper than %d levels", MaxDepth)
		}
		if err := each(d, token); err != nil {
			return err
		}
	}
}

// place is where a decoder stands, cut to a size that fits an error.
func place(d *jsontext.Decoder) string {
	p := string(d.StackPointer())
	if len(p) > 200 {
		p = strings.ToValidUTF8(p[:200], "") + "…"
	}
	return p
}

// readable drops the name of the library that found an error.
func readable(err error) error {
	var s *jsontext.SyntacticError
	if errors.As(err, &s) && s.Err != nil {
		return fmt.Errorf("it cannot be read as JSON at byte %d: %w", s.ByteOffset, s.Err)
	}
	return fmt.Errorf("it cannot be read as JSON: %w", err)
}

// checkNumber returns the exponent of a number, without its sign.
func checkNumber(s string) (int, error) {
	if len(s) > MaxNumber {
		return 0, fmt.Errorf("a number has %d characters, more than %d: keep it as text", len(s), MaxNumber)
	}
	at := strings.IndexAny(s, "eE")
	if at < 0 {
		return 0, nil
	}
	exponent, sum := strings.TrimLeft(s[at+1:], "+-0"), 0
	for _, c := range exponent {
		if sum = sum*10 + int(c-'0'); sum > MaxExponent {
			return 0, fmt.Errorf("a number has an exponent beyond %d", MaxExponent)
		}
	}
	return sum, nil
}

// decode reads JSON that Check has passed. Numbers stay as they are written.
func decode(data []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}
