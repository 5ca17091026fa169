package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// cabinet is a bundle with a database and a folder.
type cabinet struct {
	*bundle
	dir   string
	store *postgres.FileStore
}

func setupFiles(t *testing.T) *cabinet {
	t.Helper()
	pool := coretest.DB(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO nodes (epoch, name) VALUES (7, 'n')`); err != nil {
		t.Fatal(err)
	}
	c := &cabinet{bundle: setup(t), dir: filepath.Join(t.TempDir(), "files"), store: postgres.NewFileStore(pool)}
	contents, err := files.Open(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := contents.Close(); err != nil {
			t.Error(err)
		}
	})
	c.files, c.contents = c.store, contents
	c.reload()
	return c
}

// contentsLeft counts what is in the folder.
func (c *cabinet) contentsLeft(t *testing.T) (n int) {
	t.Helper()
	err := filepath.WalkDir(c.dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (c *cabinet) create(t *testing.T, name, content string) string {
	t.Helper()
	made, err := c.ask(t, "files.create", fmt.Sprintf(`{"collection":"c","name":%s,"data":%s}`, quote(t, name), quote(t, content)))
	if err != nil {
		t.Fatal(err)
	}
	return made["id"].(string)
}

func (c *cabinet) content(t *testing.T, id string) (string, bool) {
	t.Helper()
	got, err := c.ask(t, "files.get", `{"collection":"c","id":"`+id+`"}`)
	if err != nil {
		t.Fatal(err)
	}
	text, found := got["data_base64"].(string)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), found
}

func TestFiles(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	id := c.create(t, "ü.txt", "hello")
	if got, _ := c.content(t, id); got != "hello" {
		t.Errorf("%q", got)
	}
	if _, err := c.ask(t, "files.create", `{"collection":"c","id":"`+id+`","name":"b","content_type":"text/plain","data_base64":"AP8="}`); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.content(t, id); got != "\x00\xff" || c.contentsLeft(t) != 1 {
		t.Errorf("%q, %d contents", got, c.contentsLeft(t))
	}
	head, err := c.ask(t, "files.head", `{"collection":"c","id":"`+id+`"}`)
	if f, _ := head["file"].(map[string]any); err != nil || f["name"] != "b" || f["size"] != 2.0 || f["content_type"] != "text/plain" {
		t.Errorf("%v, %v", head, err)
	}
	// A large one in parts and blocks.
	begun, err := c.ask(t, "files.begin", `{"collection":"c"}`)
	if err != nil {
		t.Fatal(err)
	}
	upload, part := begun["upload"].(string), bytes.Repeat([]byte("0123456789"), 70_000)
	for n := range 3 {
		_, err := c.ask(t, "files.write", fmt.Sprintf(`{"collection":"c","upload":"%s","offset":%d,"data_base64":"%s"}`, upload, n*len(part), base64.StdEncoding.EncodeToString(part)))
		if err != nil {
			t.Fatal(err)
		}
	}
	large, err := c.ask(t, "files.finish", `{"collection":"c","upload":"`+upload+`","name":"large"}`)
	if err != nil || large["size"] != 2_100_000.0 {
		t.Fatal(large, err)
	}
	var all []byte
	for n, more := 0, true; more; n++ {
		got, err := c.ask(t, "files.read", fmt.Sprintf(`{"collection":"c","id":"%s","block":%d}`, large["id"], n))
		if err != nil {
			t.Fatal(err)
		}
		b, err := base64.StdEncoding.DecodeString(got["data_base64"].(string))
		if err != nil {
			t.Fatal(err)
		}
		all, more = append(all, b...), got["more"].(bool)
	}
	if !bytes.Equal(all, bytes.Repeat(part, 3)) {
		t.Errorf("%d bytes", len(all))
	}
	if list, err := c.ask(t, "files.list", `{"collection":"c","limit":1}`); err != nil || len(list["items"].([]any)) != 1 || list["next_cursor"] == "" {
		t.Errorf("%v, %v", list, err)
	}
	for _, id := range []any{id, large["id"]} {
		if got, err := c.ask(t, "files.delete", fmt.Sprintf(`{"collection":"c","id":"%s"}`, id)); err != nil || got["deleted"] != true {
			t.Errorf("%v, %v", got, err)
		}
		if got, err := c.ask(t, "files.delete", fmt.Sprintf(`{"collection":"c","id":"%s"}`, id)); err != nil || got["deleted"] != false {
			t.Errorf("%v, %v", got, err)
		}
	}
	if _, found := c.content(t, id); found || c.contentsLeft(t) != 0 {
		t.Errorf("%d contents are left", c.contentsLeft(t))
	}
}

// Whatever is wrong is refused in words, and leaves nothing.
func TestFilesRefusals(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	none := uuid.NewString()
	large := strings.Repeat("x", 8<<20)
	for _, r := range []struct {
		what, args string
		kind       fault.Kind
		words      string
	}{
		{"files.create", `{"collection":"../c","name":"a"}`, fault.Invalid, "collection"},
		{"files.create", `{"collection":"c","name":""}`, fault.Invalid, "name"},
		{"files.create", `{"collection":"c","name":"` + large[:256] + `"}`, fault.Invalid, "1 to 255"},
		{"files.create", `{"collection":"c","name":"a\nb"}`, fault.Invalid, "control"},
		{"files.create", `{"collection":"c","name":"a\u0000b"}`, fault.Invalid, "control"},
		{"files.create", `{"collection":"c","name":"a","content_type":"nonsense/"}`, fault.Invalid, "content_type"},
		{"files.create", `{"collection":"c","name":"a","data":"` + large + `x"}`, fault.Invalid, "8388609 bytes"},
		{"files.create", `{"collection":"c","name":"a","id":"` + none + `"}`, fault.NotFound, "no such file"},
		{"files.create", `{"collection":"c","name":"a","id":"../../x"}`, fault.Invalid, "id"},
		{"files.write", `{"collection":"c","upload":"../../../etc/passwd","offset":0,"data":"x"}`, fault.NotFound, "no such part"},
		{"files.write", `{"collection":"c","upload":"` + strings.Repeat("0", 32) + `","offset":-1}`, fault.Invalid, "offset"},
		{"files.write", `{"collection":"c","upload":"` + strings.Repeat("0", 32) + `","offset":1073741824,"data":"x"}`, fault.Invalid, "more than 1073741824"},
		{"files.finish", `{"collection":"c","upload":"","name":"a"}`, fault.NotFound, "no such part"},
		{"files.read", `{"collection":"c","id":"` + none + `","block":0}`, fault.NotFound, "no such file"},
		{"files.read", `{"collection":"c","id":"/etc/passwd","block":0}`, fault.Invalid, "id"},
		{"files.get", `{"collection":"c","id":"` + strings.ToUpper(none) + `"}`, fault.Invalid, "id"},
		{"files.list", `{"collection":"c","limit":1001}`, fault.Invalid, "limit"},
		{"files.list", `{"collection":"c","cursor":"x"}`, fault.Invalid, "cursor"},
	} {
		c.refused(t, r.what, r.args, r.kind, r.words)
	}
	c.create(t, strings.Repeat("n", 255), large)
	if n := c.contentsLeft(t); n != 1 {
		t.Errorf("%d contents are left", n)
	}
}

// A file that the disk has changed is not handed out.
func TestFilesCorrupt(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	id := c.create(t, "a", "hello")
	err := filepath.WalkDir(c.dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			return os.WriteFile(name, []byte("hellp"), 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"files.get", "files.read"} {
		c.refused(t, what, `{"collection":"c","id":"`+id+`"}`, fault.Internal, "not what was written")
	}
}

// Apps do not see each other's files, nor finish each other's uploads.
func TestFilesOfAnotherApp(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	id := c.create(t, "a", "ours")
	begun, err := c.ask(t, "files.begin", `{"collection":"c"}`)
	if err != nil {
		t.Fatal(err)
	}
	theirs := *c.run.Entry
	theirs.App = uuid.New()
	c.run.Entry = &theirs
	if _, found := c.content(t, id); found {
		t.Error("another app reads it")
	}
	if got, err := c.ask(t, "files.delete", `{"collection":"c","id":"`+id+`"}`); err != nil || got["deleted"] != false {
		t.Errorf("%v, %v", got, err)
	}
	c.refused(t, "files.finish", fmt.Sprintf(`{"collection":"c","upload":"%s","name":"a"}`, begun["upload"]), fault.NotFound, "no such part")
}

// The files of an app may take so much together; what is deleted counts no more.
func TestFilesQuota(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	app := c.run.Entry.App
	file := func(size int64) *data.File {
		return &data.File{
			App: app, Collection: "c", ID: uuid.New(), Name: "a", ContentType: "text/plain",
			Content: files.Content{Blob: uuid.New(), Size: size, SHA256: []byte{1}, Blocks: []byte{1}},
		}
	}
	put := func(f *data.File, replace bool) error {
		_, _, err := c.store.Put(t.Context(), 7, f, replace, 100, nil)
		return err
	}
	first := file(60)
	if err := put(first, false); err != nil {
		t.Fatal(err)
	}
	if err := put(file(41), false); !errors.Is(err, data.ErrQuota) {
		t.Errorf("one byte too many: %v", err)
	}
	if err := put(file(40), false); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	first.Blob, first.Size = uuid.New(), 61
	if err := put(first, true); !errors.Is(err, data.ErrQuota) {
		t.Errorf("one that grows: %v", err)
	}
	if _, _, err := c.store.Delete(t.Context(), 7, app, "c", first.ID, nil); err != nil {
		t.Fatal(err)
	}
	if err := put(file(60), false); err != nil {
		t.Errorf("after one was deleted: %v", err)
	}
	if err := c.putFenced(t, file(0)); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("a node that was taken over: %v", err)
	}
}

func (c *cabinet) putFenced(t *testing.T, f *data.File) error {
	_, _, err := c.store.Put(t.Context(), 8, f, false, 1000, nil)
	return err
}

// replacedFiles are files of which one is given another content whenever it is looked at, before its content is read.
type replacedFiles struct {
	service.Files
	replace func()
}

func (r *replacedFiles) Get(ctx context.Context, app uuid.UUID, collection string, id uuid.UUID) (data.File, error) {
	f, err := r.Files.Get(ctx, app, collection, id)
	r.replace()
	return f, err
}

// Who reads a file that is written meanwhile has what it held before or after, and is not told that there is none.
func TestFilesReplacedWhileRead(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	id := c.create(t, "a", "before")
	left := 0
	replaced := &replacedFiles{Files: c.files}
	replaced.replace = func() {
		if left--; left >= 0 {
			if _, err := c.ask(t, "files.create", `{"collection":"c","id":"`+id+`","name":"a","data":"after"}`); err != nil {
				t.Error(err)
			}
		}
	}
	c.files = replaced
	c.reload()
	for n := range 3 {
		left = n
		if got, there := c.content(t, id); !there || n > 0 && got != "after" {
			t.Errorf("%d: %q, %v", n, got, there)
		}
		left = n
		got, err := c.ask(t, "files.read", `{"collection":"c","id":"`+id+`","block":0}`)
		if err != nil || n > 0 && got["data_base64"] != base64.StdEncoding.EncodeToString([]byte("after")) {
			t.Errorf("%d: %v, %v", n, got, err)
		}
	}
	left = 1
	c.refused(t, "files.read", `{"collection":"c","id":"`+id+`","block":7}`, fault.NotFound, "no such part")
}

// What a run has written and not finished is gone when it ends.
func TestFilesNotFinished(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	ctx, end := context.WithCancel(t.Context())
	for range 3 {
		answer, err := c.host.Call(ctx, c.run, "files", "begin", []byte(`{"collection":"c"}`))
		if err != nil {
			t.Fatal(err)
		}
		var begun struct{ Upload string }
		if err := json.Unmarshal(answer, &begun); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ask(t, "files.write", fmt.Sprintf(`{"collection":"c","upload":"%s","offset":0,"data":"x"}`, begun.Upload)); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.contentsLeft(t); n != 3 {
		t.Errorf("%d uploads", n)
	}
	end()
	coretest.Eventually(t, "nothing is left", func() bool { return c.contentsLeft(t) == 0 })
}

// Triggers get what is known of a file, before and after.
func TestFilesTriggers(t *testing.T) {
	t.Parallel()
	c := setupFiles(t)
	c.app.Triggers = []tenant.Trigger{{
		ID: uuid.New(), App: c.app.ID, Name: "all", Kind: tenant.TriggerFiles, Script: c.app.Scripts[1].ID, Enabled: true,
		Filter: tenant.TriggerFilter{Collection: "*"},
	}}
	c.reload()
	id := c.create(t, "a", "one")
	if _, err := c.ask(t, "files.create", `{"collection":"c","id":"`+id+`","name":"b","data":"two!"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ask(t, "files.delete", `{"collection":"c","id":"`+id+`"}`); err != nil {
		t.Fatal(err)
	}
	if len(c.entries) != 3 {
		t.Fatalf("%d entries", len(c.entries))
	}
	for i, words := range [][]string{
		{`"op":"create"`, `"name":"a"`, `"size":3`}, {`"op":"update"`, `"name":"b"`, `"size":4`, `"previous":{`, `"name":"a"`}, {`"op":"delete"`, `"previous":{`, `"name":"b"`},
	} {
		for _, w := range words {
			if payload := string(c.entries[i].Payload); !strings.Contains(payload, w) || strings.Contains(payload, "two!") {
				t.Errorf("%d: %s has no %s", i, payload, w)
			}
		}
	}
}
