package picloud_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// shelf is a runtime with one file, which is written in uploads and read in blocks of 10 bytes.
type shelf struct {
	host

	mu      sync.Mutex
	uploads []*bytes.Buffer
}

func (s *shelf) Call(_, method string, args []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct {
		Upload string `json:"upload"`
		Offset int    `json:"offset"`
		Data   []byte `json:"data_base64"`
		Block  int    `json:"block"`
	}
	if err := json.Unmarshal(args, &in); err != nil {
		return nil, err
	}
	if method == "begin" {
		s.uploads = append(s.uploads, &bytes.Buffer{})
		return fmt.Appendf(nil, `{"upload":"%d"}`, len(s.uploads)-1), nil
	}
	content := s.uploads[0]
	switch method {
	case "write":
		if in.Upload != "0" || in.Offset != content.Len() {
			return nil, fault.New(fault.Invalid, fault.Script, "offset")
		}
		content.Write(in.Data)
		return fmt.Appendf(nil, `{"size":%d}`, content.Len()), nil
	case "read":
		from, to := min(10*in.Block, content.Len()), min(10*in.Block+10, content.Len())
		return json.Marshal(map[string]any{"data_base64": content.Bytes()[from:to], "more": to < content.Len(), "content": "c"})
	}
	return fmt.Appendf(nil, `{"size":%d}`, content.Len()), nil
}

// Goroutines of a run write to one file, and read from one: every part is there, whole and once.
func TestFilesAreShared(t *testing.T) {
	t.Parallel()
	const parts = 100
	s := &shelf{}
	files := picloud.NewContext(s, "x1", 1, &event.Envelope{}, nil).Files("f")
	together := func(do func(n int) error) {
		t.Helper()
		ends := make(chan error, parts)
		for n := range parts {
			go func() { ends <- do(n) }()
		}
		for range parts {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
	}
	w := files.Writer("name", "")
	together(func(n int) error {
		_, err := fmt.Fprintf(w, "part %03d\n", n)
		return err
	})
	if f, err := w.Finish(); err != nil || f.Size != 9*parts || len(s.uploads) != 1 {
		t.Fatalf("%+v of %d uploads, %v", f, len(s.uploads), err)
	}
	r, got := files.Reader("id"), make(chan int, parts)
	together(func(int) error {
		text, err := io.ReadAll(r)
		got <- len(text)
		return err
	})
	sum := 0
	for range parts {
		sum += <-got
	}
	if sum != 9*parts {
		t.Errorf("%d bytes were read of %d", sum, 9*parts)
	}
}
