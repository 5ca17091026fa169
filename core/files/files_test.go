package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

type box struct {
	*testing.T
	*Store
	dir      string
	app, run uuid.UUID
}

func newBox(t *testing.T) *box {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "files")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &box{t, s, dir, uuid.New(), uuid.New()}
}

// put writes a content in parts.
func (b *box) put(parts ...[]byte) Content {
	b.Helper()
	id, err := b.Begin(b.app, b.run)
	if err != nil {
		b.Fatal(err)
	}
	at := int64(0)
	for _, p := range parts {
		if at, err = b.Append(b.app, b.run, id, at, p); err != nil {
			b.Fatal(err)
		}
	}
	c, err := b.Finish(b.Context(), b.app, b.run, id)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *box) get(c *Content) []byte {
	b.Helper()
	var all []byte
	for n := 0; int64(n)*Block < c.Size; n++ {
		block, err := b.Read(b.app, c, n)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, block...)
	}
	return all
}

func (b *box) path(c *Content) string { return filepath.Join(b.dir, blob(b.app, c.Blob)) }

func TestContents(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 3*Block/16)
	for name, parts := range map[string][][]byte{
		"empty": {}, "small": {[]byte("hello")}, "parts": {[]byte("a"), nil, []byte("b")}, "a block": {large[:Block]},
		"one more": {large[:Block], []byte("x")}, "blocks": {large[:7], large[7:]},
	} {
		c, whole := b.put(parts...), bytes.Join(parts, nil)
		if sum := sha256.Sum256(whole); c.Size != int64(len(whole)) || !bytes.Equal(c.SHA256, sum[:]) || !bytes.Equal(b.get(&c), whole) {
			t.Errorf("%s: %d bytes of %d", name, c.Size, len(whole))
		}
		for _, n := range []int{int((c.Size + Block - 1) / Block), 1 << 44, 1 << 58, 1 << 59, math.MaxInt, math.MinInt} { // what overflows, too
			if _, err := b.Read(b.app, &c, n); !errors.Is(err, ErrGone) {
				t.Errorf("%s: behind the end, %d: %v", name, n, err)
			}
		}
		if _, err := b.Read(b.app, &c, -1); !errors.Is(err, ErrGone) {
			t.Errorf("%s: before the beginning: %v", name, err)
		}
	}
}

// What has changed on the disk is noticed, in whichever block.
func TestCorrupt(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	c := b.put(make([]byte, 2*Block+5))
	f, err := os.OpenFile(b.path(&c), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, Block+7); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(2*Block + 4); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(b.app, &c, 0); err != nil {
		t.Error(err)
	}
	for _, n := range []int{1, 2} {
		if _, err := b.Read(b.app, &c, n); !errors.Is(err, ErrCorrupt) {
			t.Errorf("block %d: %v", n, err)
		}
	}
	if err := b.Remove(b.app, c.Blob); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(b.app, &c, 0); !errors.Is(err, ErrGone) {
		t.Errorf("what was removed: %v", err)
	}
	if err := b.Remove(b.app, c.Blob); err != nil {
		t.Error(err)
	}
}

// An upload belongs to its run and app, and takes its parts in order.
func TestUploads(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	id, err := b.Begin(b.app, b.run)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"another run": func() error { _, err := b.Append(b.app, uuid.New(), id, 0, []byte("x")); return err },
		"another app": func() error { _, err := b.Append(uuid.New(), b.run, id, 0, []byte("x")); return err },
		"a path":      func() error { _, err := b.Append(b.app, b.run, "../../../x", 0, []byte("x")); return err },
		"an absolute": func() error { _, err := b.Finish(t.Context(), b.app, b.run, "/etc/passwd"); return err },
		"nothing":     func() error { _, err := b.Append(b.app, b.run, "", 0, nil); return err },
		"unknown":     func() error { _, err := b.Finish(t.Context(), b.app, b.run, strings.Repeat("0", 32)); return err },
	} {
		if err := try(); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Append(b.app, b.run, id, 1, []byte("x")); !errors.Is(err, ErrOffset) {
		t.Errorf("with a gap: %v", err)
	}
	if err := b.Abandon(b.app, b.run, id); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(b.app, b.run, id, 0, nil); !errors.Is(err, ErrGone) {
		t.Errorf("what was given up: %v", err)
	}
}

// What an app writes at one time is bounded, and what is finished or given up is no part of that.
// TestTurns has a run do one thing several times at once to an upload: a part is written behind what is there, or not at all, and one file
// is made.
func TestTurns(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	once := func(do func() error, late error) {
		t.Helper()
		const times = 8
		ends := make(chan error, times)
		for range times {
			go func() { ends <- do() }()
		}
		done := 0
		for range times {
			switch err := <-ends; {
			case err == nil:
				done++
			case !errors.Is(err, late):
				t.Errorf("who comes too late is told %v, not %v", err, late)
			}
		}
		if done != 1 {
			t.Errorf("it was done %d times", done)
		}
	}
	for range 20 {
		id, err := b.Begin(b.app, b.run)
		if err != nil {
			t.Fatal(err)
		}
		once(func() error {
			_, err := b.Append(b.app, b.run, id, 0, []byte("part"))
			return err
		}, ErrOffset)
		once(func() error {
			c, err := b.Finish(b.Context(), b.app, b.run, id)
			if err == nil && c.Size != 4 {
				t.Errorf("the content has %d bytes, not 4", c.Size)
			}
			return err
		}, ErrGone)
	}
	if len(b.turns) != 0 {
		t.Errorf("%d turns are still noted", len(b.turns))
	}
}

func TestRoom(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.room = 100
	begin := func() string {
		id, err := b.Begin(b.app, b.run)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	add := func(id string, offset, n int, want error) {
		t.Helper()
		if _, err := b.Append(b.app, b.run, id, int64(offset), make([]byte, n)); !errors.Is(err, want) {
			t.Errorf("%d bytes behind %d: %v", n, offset, err)
		}
	}
	first, second := begin(), begin()
	add(first, 0, 60, nil)
	add(second, 0, 41, ErrRoom)
	add(second, 0, 39, nil)
	add(first, 60, 2, ErrRoom)
	add(first, 60, 1, nil)
	if err := b.Abandon(b.app, b.run, second); err != nil {
		t.Fatal(err)
	}
	add(first, 61, 39, nil)
	if _, err := b.Finish(t.Context(), b.app, b.run, first); err != nil {
		t.Fatal(err)
	}
	b.put(make([]byte, 100))
	if len(b.open) > 0 {
		t.Errorf("there is no upload, but %v", b.open)
	}
}

// A link in the folder leads nowhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := b.put([]byte("hunter2"))
	if err := os.Remove(b.path(&c)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, b.path(&c)); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Read(b.app, &c, 0); err == nil {
		t.Errorf("%q is read through a link", got)
	}
}

// What no row names is removed once it is old, and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	kept, lost, fresh := b.put([]byte("a")), b.put([]byte("b")), b.put([]byte("c"))
	id, err := b.Begin(b.app, b.run)
	if err != nil {
		t.Fatal(err)
	}
	begun, err := upload(b.app, b.run, id)
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(-time.Hour)
	for _, name := range []string{b.path(&kept), b.path(&lost), filepath.Join(b.dir, begun)} {
		if err := os.Chtimes(name, hour, hour); err != nil {
			t.Fatal(err)
		}
	}
	removed, err := b.Sweep(context.Background(), time.Now().Add(-time.Minute), func(app uuid.UUID, blobs []uuid.UUID) (map[uuid.UUID]bool, error) {
		if app != b.app || len(blobs) != 2 {
			t.Errorf("asked for %d of %s", len(blobs), app)
		}
		return map[uuid.UUID]bool{kept.Blob: true}, nil
	})
	if err != nil || removed != 2 {
		t.Errorf("%d removed, %v", removed, err)
	}
	for _, c := range []Content{kept, fresh} {
		if _, err := b.Read(b.app, &c, 0); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Read(b.app, &lost, 0); !errors.Is(err, ErrGone) {
		t.Errorf("what nobody names: %v", err)
	}
}
