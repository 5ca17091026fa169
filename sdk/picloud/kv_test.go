package picloud_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

// Bytes that are no text would be another key in JSON, and the same one for many of them.
func TestKeysAreText(t *testing.T) {
	t.Parallel()
	h := &host{answer: `{}`}
	c := newContext(h)
	const bytes = "a\xff\x01"
	odd := &picloud.Delivery{IdempotencyKey: bytes}
	for what, f := range map[string]func() error{
		"get":       func() error { _, err := c.KV("c").Get(bytes, nil); return err },
		"has":       func() error { _, err := c.KV("c").Has(bytes); return err },
		"set":       func() error { _, err := c.KV("c").Set(bytes, 1); return err },
		"delete":    func() error { _, err := c.KV("c").Delete(bytes); return err },
		"increment": func() error { _, err := c.KV("c").Increment(bytes, 1); return err },
		"list":      func() error { _, _, err := c.KV("c").List(&picloud.ListOptions{Prefix: bytes}); return err },
		"invoke":    func() error { _, err := c.Invoke("s", nil, odd); return err },
		"send":      func() error { _, err := c.Queue("q").SendAll([]any{1}, odd); return err },
		"publish":   func() error { _, err := c.Publish("t", 1, odd); return err },
	} {
		if err := f(); picloud.Code(err) != picloud.InvalidArgument || !strings.HasPrefix(err.Error(), "invalid_argument: a key is not UTF-8") || h.called != "" {
			t.Errorf("%s: %v, %s", what, err, h.called)
		}
	}
	if _, err := c.KV("c").Has("<ключ>\x00�"); err != nil || h.args["key"] != "<ключ>\x00�" {
		t.Errorf("%v, %v", err, h.args)
	}
}

// A time to live that has passed is none that lasts for ever, however little it is.
func TestTimeToLive(t *testing.T) {
	t.Parallel()
	h := &host{answer: `{}`}
	for ttl, want := range map[time.Duration]string{
		0: "<nil>", 1: "1", time.Millisecond: "1", time.Millisecond + 1: "2", -1: "-1", -time.Millisecond - 1: "-2",
	} {
		if _, err := newContext(h).KV("c").Set("k", 1, &picloud.SetOptions{TTL: ttl}); err != nil || fmt.Sprint(h.args["ttl_ms"]) != want {
			t.Errorf("%s: %v, %v", ttl, h.args["ttl_ms"], err)
		}
	}
}

// The version of a key without a value is one that may be asked for, as Entry says it.
func TestVersionOfNothing(t *testing.T) {
	t.Parallel()
	h := &host{answer: `{}`}
	kv := newContext(h).KV("c")
	entry, err := kv.Entry("k")
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() error{
		"set":    func() error { _, err := kv.SetIf("k", 1, entry.Version); return err },
		"delete": func() error { _, err := kv.DeleteIf("k", entry.Version); return err },
	} {
		if err := f(); err != nil || h.args["if_version"] != 0.0 {
			t.Errorf("%s: %v, %v", what, h.args, err)
		}
	}
	for what, f := range map[string]func() error{
		"set":    func() error { _, err := kv.Set("k", 1); return err },
		"delete": func() error { _, err := kv.Delete("k"); return err },
	} {
		if err := f(); err != nil || h.args["if_version"] != nil {
			t.Errorf("%s: %v, %v", what, h.args, err)
		}
	}
}
