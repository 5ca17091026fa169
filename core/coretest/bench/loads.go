//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/postgres/embedded"
)

// onServer runs part on a line of its own, with a server of its own.
func (b *bench) onServer(ctx context.Context, part func(*line) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "outbox-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // as for the folder around it
		return err
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
	if err := postgres.Migrate(ctx, server.URL(), hclog.NewNullLogger()); err != nil {
		return err
	}
	l, err := openLine(ctx, server.URL())
	if err != nil {
		return err
	}
	defer l.close()
	l.data = filepath.Join(dir, "postgres", "data")
	return part(l)
}

// outbox measures the outbox without an engine, beside the peers where there are some: each load of ours and theirs in
// turn, so that all see the same weather.
func (b *bench) outbox(ctx context.Context) error {
	return b.onServer(ctx, func(l *line) error {
		if b.others != nil {
			if err := b.others.on(ctx, l.url, l.data); err != nil {
				return err
			}
		}
		runs := map[string][]figure{}
		for range b.rounds {
			for _, load := range loads {
				if !strings.Contains(load.name, b.load) {
					continue
				}
				f, err := l.measured(ctx, load.run)
				if err != nil {
					return fmt.Errorf("%s: %w", load.name, err)
				}
				runs[load.name] = append(runs[load.name], f)
				if b.others == nil {
					continue
				}
				l.hangUp() // the server has no room for theirs beside ours
				for _, r := range rivals[load.name] {
					f, err := b.others.run(ctx, r)
					if err != nil {
						return fmt.Errorf("%s: %w", load.name, err)
					}
					runs[load.name+r.name] = append(runs[load.name+r.name], f)
				}
			}
		}
		return reportLoads(os.Stdout, runs, b.others != nil)
	})
}

func reportLoads(w io.Writer, runs map[string][]figure, peers bool) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\t\n", args...) } // Flush has the error
	line("outbox, target in process\t\t/s\tmin-max\tp50\tp99\tcommit to run p50\tp99\tµs each: host\tpostgres\tours to theirs: rate\tp50\tpostgres")
	for _, load := range loads {
		ours := runs[load.name]
		if ours == nil {
			continue
		}
		row := func(name string, list []figure) {
			least, most := bounds(list, figure.each)
			ratio := "\t\t"
			if name != "PiCloud" {
				ratio = fmt.Sprintf("%s\t%s\t%s", quotient(ours, list, figure.each), quotient(ours, list, figure.median),
					quotient(ours, list, func(f figure) float64 { return f.postgres }))
			}
			line("%s\t%s\t%.0f\t%.0f-%.0f\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%s", load.name, name, median(list, figure.each), least, most,
				spanOf(list, func(f figure) time.Duration { return f.p50 }), spanOf(list, func(f figure) time.Duration { return f.p99 }),
				spanOf(list, func(f figure) time.Duration { return f.run50 }), spanOf(list, func(f figure) time.Duration { return f.run99 }),
				median(list, func(f figure) float64 { return f.host }), median(list, func(f figure) float64 { return f.postgres }), ratio)
		}
		row("PiCloud", ours)
		if peers {
			for _, r := range rivals[load.name] {
				row(r.name, runs[load.name+r.name])
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (f figure) each() float64   { return f.rate }
func (f figure) median() float64 { return float64(f.p50) }

// quotient is that of the medians, empty where there is none.
func quotient(ours, theirs []figure, of func(figure) float64) string {
	a, b := median(ours, of), median(theirs, of)
	if a == 0 || b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

func spanOf(list []figure, of func(figure) time.Duration) string {
	d := time.Duration(median(list, func(f figure) float64 { return float64(of(f)) }))
	if d == 0 {
		return ""
	}
	return d.Round(10 * time.Microsecond).String()
}
