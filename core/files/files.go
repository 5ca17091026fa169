// Package files keeps the content of apps' files in a folder: blobs, which never change once they are there. What a file is called and
// which blob it has is in the database. It stands beside core/service, which scripts ask for files.
//
// A content is written to a file of its own, made safe on the disk, and moved to its place before a row names it; it is removed
// after no row does. What a crash leaves in between is removed by Sweep.
package files

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Block is how much of a content is read and checked at a time, in bytes.
const Block = 1 << 20

// Conditions that callers act on.
var (
	// ErrGone says that there is no such blob, or no such upload of this run.
	ErrGone = errors.New("there is no such content")
	// ErrCorrupt says that a content is not what was written.
	ErrCorrupt = errors.New("the content on the disk is not what was written")
	// ErrOffset says that a part does not follow what is there.
	ErrOffset = errors.New("the part does not follow what was written before")
	// ErrRoom says that an app is writing too much at one time.
	ErrRoom = errors.New("too much is being written at one time")
)

// MaxOpen is how many bytes the uploads of an app may have together, on one node: they are part of no file yet, and so of no quota.
const MaxOpen = 10 << 30

// Store is the folder. Its methods are safe for concurrent use.
type Store struct {
	root *os.Root
	room int64 // MaxOpen

	mu    sync.Mutex
	open  map[uuid.UUID]map[string]int64 // sizes of uploads, by app and path
	turns map[string]*turn               // of uploads that something is done to, by path
}

// turn is whose turn it is to do something to an upload.
type turn struct {
	sync.Mutex
	users int // who have it or wait for it
}

// Open opens the folder, which is made if it is missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of files: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of files: %w", err)
	}
	return &Store{root: root, room: MaxOpen, open: map[uuid.UUID]map[string]int64{}, turns: map[string]*turn{}}, nil
}

// Close closes the folder.
func (s *Store) Close() error { return s.root.Close() }

// Content is what is known of a blob.
type Content struct {
	Blob   uuid.UUID
	Size   int64
	SHA256 []byte // 32 bytes
	Blocks []byte // SHA-256 of each Block, one after the other
}

// uploads is the folder of what is being written: uploads/<app>/<run>-<upload>.
const uploads = "uploads"

func upload(app, run uuid.UUID, id string) (string, error) {
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 {
		return "", ErrGone
	}
	return path.Join(uploads, app.String(), run.String()+"-"+id), nil
}

func blob(app, id uuid.UUID) string {
	text := id.String()
	return path.Join("blobs", app.String(), text[len(text)-2:], text)
}

// Begin begins an upload of a run and returns its id.
func (s *Store) Begin(app, run uuid.UUID) (string, error) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	id := hex.EncodeToString(b[:])
	name, err := upload(app, run, id)
	if err != nil {
		return "", err
	}
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return "", err
	}
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	return id, f.Close()
}

// Append adds a part to an upload, of which offset bytes are there, and returns how many are there now.
func (s *Store) Append(app, run uuid.UUID, id string, offset int64, part []byte) (size int64, err error) {
	name, err := upload(app, run, id)
	if err != nil {
		return 0, err
	}
	defer s.enter(name)()
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, gone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() != offset {
		return info.Size(), ErrOffset
	}
	if !s.grow(app, name, offset+int64(len(part))) {
		return offset, ErrRoom
	}
	n, err := f.Write(part)
	return offset + int64(n), err
}

// enter waits for the turn of an upload, of which a script may write two parts at a time, or make the file meanwhile: what one of them looked
// at must hold until it is done. The function that it returns ends the turn.
func (s *Store) enter(name string) (leave func()) {
	s.mu.Lock()
	t := s.turns[name]
	if t == nil {
		t = &turn{}
		s.turns[name] = t
	}
	t.users++
	s.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(s.turns, name)
		}
	}
}

// grow notes the size that an upload is going to have, if there is room for it.
func (s *Store) grow(app uuid.UUID, name string, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := size
	for other, n := range s.open[app] {
		if other != name {
			sum += n
		}
	}
	if sum > s.room {
		return false
	}
	if s.open[app] == nil {
		s.open[app] = map[string]int64{}
	}
	s.open[app][name] = size
	return true
}

// forget takes the room of an upload back.
func (s *Store) forget(app uuid.UUID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.open[app], name); len(s.open[app]) == 0 {
		delete(s.open, app)
	}
}

// Finish makes a blob of an upload: safe on the disk, and in its place, though no row names it yet.
func (s *Store) Finish(ctx context.Context, app, run uuid.UUID, id string) (c Content, err error) {
	name, err := upload(app, run, id)
	if err != nil {
		return c, err
	}
	defer s.enter(name)()
	f, err := s.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return c, gone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if c, err = digest(ctx, f); err != nil {
		return c, err
	}
	if err := f.Sync(); err != nil {
		return c, err
	}
	if c.Blob, err = uuid.NewV7(); err != nil {
		return c, err
	}
	place := blob(app, c.Blob)
	if err := s.root.MkdirAll(path.Dir(place), 0o700); err != nil {
		return c, err
	}
	if err := s.root.Rename(name, place); err != nil {
		return c, err
	}
	s.forget(app, name)
	return c, s.syncFolders(path.Dir(place))
}

// digest reads a content once and returns what is known of it.
func digest(ctx context.Context, r io.Reader) (c Content, err error) {
	whole, buffer := sha256.New(), make([]byte, Block)
	c.Blocks = []byte{} // of an empty file there are none, which is not that nobody knows
	for {
		n, err := io.ReadFull(r, buffer)
		if n > 0 {
			whole.Write(buffer[:n])
			sum := sha256.Sum256(buffer[:n])
			c.Blocks, c.Size = append(c.Blocks, sum[:]...), c.Size+int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			c.SHA256 = whole.Sum(nil)
			return c, nil
		case err != nil:
			return c, err
		case ctx.Err() != nil:
			return c, context.Cause(ctx)
		}
	}
}

// syncFolders makes the names in a folder and in those above it safe on the disk.
func (s *Store) syncFolders(dir string) error {
	for ; ; dir = path.Dir(dir) {
		f, err := s.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

// Read returns block n of a blob, counted from 0, checked against c.Blocks. The last one may be short; ErrGone: there is no such
// blob, or no such block.
func (s *Store) Read(app uuid.UUID, c *Content, n int) ([]byte, error) {
	if n < 0 || n >= len(c.Blocks)/sha256.Size { // n is a script's: nothing is reckoned with it before
		return nil, ErrGone
	}
	at := int64(n) * Block
	if at >= c.Size {
		return nil, ErrGone
	}
	f, err := s.root.Open(blob(app, c.Blob))
	if err != nil {
		return nil, gone(err)
	}
	defer func() { _ = f.Close() }()
	buffer := make([]byte, min(Block, c.Size-at))
	if _, err := f.ReadAt(buffer, at); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrCorrupt
		}
		return nil, err
	}
	if sum := sha256.Sum256(buffer); string(sum[:]) != string(c.Blocks[n*sha256.Size:(n+1)*sha256.Size]) {
		return nil, ErrCorrupt
	}
	return buffer, nil
}

// Remove removes a blob. One that is not there is none to remove.
func (s *Store) Remove(app, id uuid.UUID) error {
	if err := s.root.Remove(blob(app, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Abandon removes what a run was writing and did not finish.
func (s *Store) Abandon(app, run uuid.UUID, id string) error {
	name, err := upload(app, run, id)
	if err != nil {
		return nil // there is no such upload
	}
	defer s.enter(name)()
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.forget(app, name)
	return nil
}

// Sweep removes uploads that were last written before a time, and blobs of before then that known does not know: it gets those of one
// app and returns the ones that a row names. It returns how many were removed.
func (s *Store) Sweep(ctx context.Context, before time.Time, known func(app uuid.UUID, blobs []uuid.UUID) (map[uuid.UUID]bool, error)) (removed int, err error) {
	old := func(d fs.DirEntry) bool {
		info, err := d.Info()
		return err == nil && info.Mode().IsRegular() && info.ModTime().Before(before)
	}
	candidates := map[uuid.UUID][]uuid.UUID{}
	err = fs.WalkDir(s.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist):
			return nil // it has gone meanwhile
		case err != nil || d.IsDir() || !old(d):
			return err
		}
		parts := splitPath(name)
		if parts[0] == uploads {
			removed++
			return s.root.Remove(name)
		}
		if len(parts) != 4 {
			return nil
		}
		app, err1 := uuid.Parse(parts[1])
		id, err2 := uuid.Parse(parts[3])
		if err1 == nil && err2 == nil {
			candidates[app] = append(candidates[app], id)
		}
		return nil
	})
	if err != nil {
		return removed, fmt.Errorf("look through the folder of files: %w", err)
	}
	for app, ids := range candidates {
		named, err := known(app, ids)
		if err != nil {
			return removed, err
		}
		for _, id := range ids {
			if named[id] {
				continue
			}
			if err := s.Remove(app, id); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

func splitPath(name string) (parts []string) {
	for name != "." && name != "" {
		parts = append([]string{path.Base(name)}, parts...)
		name = path.Dir(name)
	}
	return parts
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrGone
	}
	return err
}
