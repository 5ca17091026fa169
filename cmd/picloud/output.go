package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/mattn/go-isatty"
)

// grid is what a person sees of an answer: columns with a head, or names with values.
type grid struct {
	head []string // nil: the first column names the values
	rows [][]string
}

// print shows v as JSON, or what people see of it.
func (c *cli) print(v any, view func() grid) error {
	if c.output == "json" {
		encoder := json.NewEncoder(c.out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	}
	g := view()
	for _, row := range g.rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
	}
	if terminal(c.out) {
		return g.draw(c.out)
	}
	return g.write(c.out)
}

// items is a list in the form that the API gives it.
type items[T any] struct {
	Items []T `json:"items"`
}

func printList[T any](c *cli, list []T, head []string, row func(*T) []string) error {
	return c.print(items[T]{list}, func() grid {
		g := grid{head: head}
		for i := range list {
			g.rows = append(g.rows, row(&list[i]))
		}
		return g
	})
}

func terminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

var (
	headStyle = lipgloss.NewStyle().Bold(true).PaddingRight(2)
	nameStyle = lipgloss.NewStyle().Faint(true).PaddingRight(2)
	cellStyle = lipgloss.NewStyle().PaddingRight(2)
)

// draw is for terminals, where colours are as the terminal can show them.
func (g grid) draw(w io.Writer) error {
	if len(g.rows) == 0 {
		_, err := fmt.Fprintln(w, "none")
		return err
	}
	drawn := table.New().Border(lipgloss.HiddenBorder()).BorderTop(false).BorderBottom(false).BorderLeft(false).
		BorderRight(false).BorderColumn(false).BorderHeader(false).Wrap(false).Rows(g.rows...).
		StyleFunc(func(row, column int) lipgloss.Style {
			switch {
			case row == table.HeaderRow:
				return headStyle
			case g.head == nil && column == 0:
				return nameStyle
			}
			return cellStyle
		})
	if g.head != nil {
		drawn.Headers(g.head...)
	}
	_, err := lipgloss.Fprintln(w, drawn)
	return err
}

// write is for everything that is not a terminal: aligned columns, two spaces or more between them.
func (g grid) write(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows := g.rows
	if g.head != nil {
		rows = append([][]string{g.head}, rows...)
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(out, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return out.Flush()
}

// printable shows control characters as escapes: names, errors and log lines are the words of scripts and of their
// callers, who must not move the cursor of whoever reads them.
func printable(text string) string {
	if !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unprintable(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// printableLines is printable for texts of several lines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func milliseconds(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(10 * time.Microsecond).String()
}

// number is n, or a dash for none.
func number[N int | int64](n N) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
