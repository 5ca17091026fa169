package stdlib

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// comma is what stands between the fields of a row.
func comma(text string) (rune, error) {
	r, n := utf8.DecodeRuneInString(text)
	if n != len(text) || n == 0 || r == '"' || r == '\r' || r == '\n' || r == utf8.RuneError {
		return 0, errors.New("the separator has to be one character, and no quote or line end")
	}
	return r, nil
}

// maxFields bounds how many parts are read of a text, each of which takes memory even if it is empty.
const maxFields = 500_000

// csvParse reads by RFC 4180. Rows may have different numbers of fields; empty lines are none.
func csvParse(args []any) (any, error) {
	text := args[0].(string)
	separator, err := comma(args[1].(string))
	if err != nil {
		return nil, err
	}
	if strings.Count(text, string(separator))+strings.Count(text, "\n") >= maxFields {
		return nil, fmt.Errorf("there are more than %d separators and line ends", maxFields)
	}
	r := csv.NewReader(strings.NewReader(text))
	r.Comma, r.FieldsPerRecord = separator, -1
	rows := [][]string{}
	for {
		row, err := r.Read()
		var wrong *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return rows, nil
		case errors.As(err, &wrong):
			return nil, fmt.Errorf("line %d, column %d: %w", wrong.Line, wrong.Column, wrong.Err)
		case err != nil:
			return nil, err
		}
		rows = append(rows, row)
	}
}

// csvFormat writes rows that end with a line feed, with quotes where they are needed.
func csvFormat(args []any) (any, error) {
	separator, err := comma(args[1].(string))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	w.Comma = separator
	for _, row := range args[0].([][]string) {
		if err := w.Write(row); err != nil {
			return nil, err
		}
	}
	w.Flush()
	if out.Len() > MaxOutput {
		return nil, tooMuch()
	}
	return out.String(), w.Error()
}
