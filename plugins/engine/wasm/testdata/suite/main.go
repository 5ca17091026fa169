//go:build wasip1

// Command suite is a script that does what enginetest.Suite wants, and some more that tests of the engine ask for.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/picloud/guest"
)

func init() { guest.Register(Handle) }

func main() { guest.Serve(Handle) }

var calls int

type order struct {
	Lines []struct {
		Item  string
		Count int
		Price float64
	}
}

// Handle does what the body's first word says.
func Handle(ctx *picloud.Context) (any, error) {
	calls++
	if batch := ctx.Batch(); batch != nil {
		var result picloud.BatchResult
		for _, m := range batch {
			if bytes.HasPrefix(m.Body, []byte("bad")) {
				result.Failures = append(result.Failures, picloud.Failure{ID: m.ID, Error: string(m.Body), Fatal: true})
			}
		}
		return result, nil
	}
	command, arg, _ := bytes.Cut(ctx.Request.Body, []byte(" "))
	text := string(arg)
	switch string(command) {
	case "echo":
		return picloud.Response{Body: arg}, nil
	case "fail":
		return nil, errors.New(text)
	case "retry":
		return nil, picloud.RetryAfter(errors.New(text), 90*time.Second)
	case "fatal":
		return nil, picloud.Fatal(errors.New(text))
	case "send":
		id, err := ctx.Invoke("other", text)
		return picloud.Response{Body: id}, err
	case "panic":
		panic(text)
	case "panic-beside":
		go panic(text)
		select {}
	case "log":
		ctx.Log.Info(text)
		return picloud.Response{}, nil
	case "log-data":
		ctx.Log.Warn(text, map[string]int{"n": 1}, []int{2})
		return nil, nil
	case "print":
		fmt.Fprintln(os.Stderr, text)
		return nil, nil
	case "wait":
		for {
		}
	case "sleep":
		return nil, ctx.Sleep(time.Hour)
	case "nap":
		return nil, ctx.Sleep(time.Millisecond)
	case "down":
		return down(0), nil
	case "append":
		var all [][]byte
		for {
			all = append(all, make([]byte, 1<<20))
		}
	case "flood":
		n, err := strconv.Atoi(text)
		return picloud.Response{Body: strings.Repeat("x", n)}, err
	case "code":
		_, err := ctx.Queue("none").Send("x")
		return picloud.Code(err), nil
	case "request":
		q := ctx.Request
		return []any{
			q.Method, q.Path, q.Param("id"), q.Rest, q.Query["q"], q.Headers["Accept"], q.Header("accept"), ctx.ExecutionID,
			ctx.Attempt, ctx.Event.ID, ctx.Event.Time.Unix(), ctx.SDKVersion,
		}, nil
	case "calls":
		return calls, nil
	case "goroutines":
		var all sync.WaitGroup
		sum := make([]int, 100)
		for i := range sum {
			all.Go(func() { sum[i] = i })
		}
		all.Wait()
		total := 0
		for _, n := range sum {
			total += n
		}
		return total, nil
	case "environment":
		_, err := os.ReadFile("/etc/passwd")
		return []any{os.Args, len(os.Environ()), err != nil, time.Since(time.Unix(0, 0)) > 0}, nil
	}
	if ctx.Request.Body[0] == '{' {
		return total(ctx)
	}
	return nil, errors.New("unknown command")
}

func down(n int) int { return down(n+1) + n }

// total is what benchmarks of all engines compute.
func total(ctx *picloud.Context) (any, error) {
	var in order
	if err := ctx.Request.JSON(&in); err != nil {
		return nil, err
	}
	sort.Slice(in.Lines, func(i, j int) bool { return in.Lines[i].Item < in.Lines[j].Item })
	sum := 0.0
	var items []string
	for _, l := range in.Lines {
		sum += float64(l.Count) * l.Price
		items = append(items, strings.ToUpper(l.Item))
	}
	return map[string]any{"total": sum, "items": items}, nil
}
