package service

import (
	"context"
	"encoding/hex"
	"errors"
	"mime"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/fault"
)

// Files keeps what files are called and which contents they have. See core/postgres.FileStore for the errors.
type Files interface {
	Get(ctx context.Context, app uuid.UUID, collection string, id uuid.UUID) (data.File, error)
	List(ctx context.Context, app uuid.UUID, collection, cursor string, limit int) ([]data.File, string, error)
	Put(ctx context.Context, owner int64, f *data.File, replace bool, quota int64, caused data.Caused) (uuid.UUID, []*outbox.Entry, error)
	Delete(ctx context.Context, owner int64, app uuid.UUID, collection string, id uuid.UUID, caused data.Caused) (uuid.UUID, []*outbox.Entry, error)
}

// Limits of files.
const (
	MaxFile     = 1 << 30  // bytes of one
	maxFilePart = 8 << 20  // bytes of a part that is written, or of a file that is read at once
	maxFileName = 255      // bytes
	filesQuota  = 10 << 30 // bytes of all files of an app
)

// file is a file as scripts see it.
type file struct {
	ID          uuid.UUID `json:"id"`
	Name        string    `json:"name"`
	ContentType string    `json:"content_type"`
	Size        int64     `json:"size"`
	SHA256      string    `json:"sha256"` // hexadecimal
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func viewFile(f *data.File) file {
	return file{f.ID, f.Name, f.ContentType, f.Size, hex.EncodeToString(f.SHA256), f.CreatedAt.UTC(), f.UpdatedAt.UTC()}
}

// filePlace names a file. An id that is none names no file.
type filePlace struct {
	Collection string `json:"collection"`
	ID         string `json:"id"`
}

func (c *call) filePlace(in filePlace) (uuid.UUID, error) {
	if err := data.CheckName(in.Collection); err != nil {
		return uuid.Nil, invalid("collection: %v", err)
	}
	id, err := uuid.Parse(in.ID)
	if err != nil || id.String() != in.ID {
		return uuid.Nil, invalid("id: is none that a file has")
	}
	return id, nil
}

// filesBegin begins to write a file. Its parts follow, then its name. What is not finished when the run ends is gone.
func (c *call) filesBegin(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Collection string `json:"collection"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := data.CheckName(in.Collection); err != nil {
		return nil, invalid("collection: %v", err)
	}
	app, run := c.run.Entry.App, c.run.Entry.ID
	id, err := c.contents.Begin(app, run)
	if err != nil {
		return nil, c.fileRefusal(err)
	}
	context.AfterFunc(ctx, func() { _ = c.contents.Abandon(app, run, id) }) // where it is still there; the sweep removes it, too
	return struct {
		Upload string `json:"upload"`
	}{id}, nil
}

// filesWrite writes a part behind those that are there.
func (c *call) filesWrite(_ context.Context, args []byte) (any, error) {
	var in struct {
		Collection string `json:"collection"` // an upload belongs to the run: it is told where the file is made
		Upload     string `json:"upload"`
		Offset     int64  `json:"offset"`
		Text       string `json:"data"`
		Data       []byte `json:"data_base64"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if in.Data == nil {
		in.Data = []byte(in.Text)
	}
	switch {
	case len(in.Data) > maxFilePart:
		return nil, invalid("the part has %d bytes, more than %d: write several", len(in.Data), maxFilePart)
	case in.Offset < 0:
		return nil, invalid("offset: must not be negative")
	case in.Offset > MaxFile-int64(len(in.Data)):
		return nil, invalid("the file has more than %d bytes", int64(MaxFile))
	}
	size, err := c.contents.Append(c.run.Entry.App, c.run.Entry.ID, in.Upload, in.Offset, in.Data)
	if err != nil {
		return nil, c.fileRefusal(err)
	}
	return struct {
		Size int64 `json:"size"`
	}{size}, nil
}

// newFile is what makes a file, or with an id the content of one that is there.
type newFile struct {
	Collection  string `json:"collection"`
	ID          string `json:"id"`
	Name        string `json:"name"`
	ContentType string `json:"content_type"`
}

// filesFinish makes a file of what was written.
func (c *call) filesFinish(ctx context.Context, args []byte) (any, error) {
	var in struct {
		newFile
		Upload string `json:"upload"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	return c.finish(ctx, in.newFile, in.Upload)
}

// filesCreate makes a file of a content that is small.
func (c *call) filesCreate(ctx context.Context, args []byte) (any, error) {
	var in struct {
		newFile
		Text string `json:"data"`
		Data []byte `json:"data_base64"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if in.Data == nil {
		in.Data = []byte(in.Text)
	}
	if len(in.Data) > maxFilePart {
		return nil, invalid("the content has %d bytes, more than %d: write it in parts, with begin, write and finish", len(in.Data), maxFilePart)
	}
	app, run := c.run.Entry.App, c.run.Entry.ID
	upload, err := c.contents.Begin(app, run)
	if err != nil {
		return nil, c.fileRefusal(err)
	}
	defer func() { _ = c.contents.Abandon(app, run, upload) }() // where it is still there; the sweep removes it, too
	if _, err := c.contents.Append(app, run, upload, 0, in.Data); err != nil {
		return nil, c.fileRefusal(err)
	}
	return c.finish(ctx, in.newFile, upload)
}

// filesGet returns the content of a file that is small.
func (c *call) filesGet(ctx context.Context, args []byte) (any, error) {
	var in filePlace
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	var out struct {
		Data []byte `json:"data_base64"`
	}
	f, err := c.read(ctx, in, func(f *data.File) error {
		if f.Size > maxFilePart {
			return invalid("the file has %d bytes, more than %d: read it block by block", f.Size, maxFilePart)
		}
		out.Data = make([]byte, 0, f.Size)
		for n := 0; int64(n)*files.Block < f.Size; n++ {
			block, err := c.contents.Read(f.App, &f.Content, n)
			if err != nil {
				return err
			}
			out.Data = append(out.Data, block...)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return struct{}{}, nil
	}
	return out, nil
}

// read has do read the content of a file, and returns the file, nil where there is none. do is called again where it was given another
// content before it had read this one.
func (c *call) read(ctx context.Context, in filePlace, do func(f *data.File) error) (*data.File, error) {
	for before := uuid.Nil; ; {
		f, err := c.file(ctx, in)
		if err != nil || f == nil {
			return nil, err
		}
		err = do(f)
		var refused *fault.Fault
		switch {
		case err == nil:
			return f, nil
		case errors.As(err, &refused):
			return nil, err
		case !errors.Is(err, files.ErrGone) || f.Blob == before:
			return nil, c.unreadable(f, err)
		}
		before = f.Blob
	}
}

// unreadable says why a content cannot be read, to the script and, where it is a disk's fault, to whoever runs it.
func (c *call) unreadable(f *data.File, err error) error {
	if errors.Is(err, files.ErrCorrupt) {
		c.log.Error("a file is not what was written", "app", f.App, "file", f.ID, "blob", f.Blob)
	}
	return c.fileRefusal(err)
}

// finish makes a file of an upload: a new one, or where in has an id the content of one that is there.
func (c *call) finish(ctx context.Context, in newFile, upload string) (any, error) {
	f := data.File{App: c.run.Entry.App, Collection: in.Collection, Name: in.Name, ContentType: in.ContentType}
	if err := checkFile(&f); err != nil {
		return nil, err
	}
	replace := in.ID != ""
	var err error
	if replace {
		f.ID, err = c.filePlace(filePlace{in.Collection, in.ID})
	} else {
		f.ID, err = uuid.NewV7()
	}
	if err != nil {
		return nil, err
	}
	if f.Content, err = c.contents.Finish(ctx, f.App, c.run.Entry.ID, upload); err != nil {
		return nil, c.fileRefusal(err)
	}
	var before uuid.UUID
	err = c.change(ctx, outbox.KindFiles, f.Collection, 0, func(owner int64, caused data.Caused) (entries []*outbox.Entry, err error) {
		before, entries, err = c.files.Put(ctx, owner, &f, replace, filesQuota, caused)
		return entries, err
	})
	if err != nil {
		// Where it is not known whether the row was written the content stays: the sweep knows.
		if fault.From(err).Origin == fault.Script {
			c.forget(f.App, f.Blob)
		}
		return nil, err
	}
	if replace {
		c.forget(f.App, before)
	}
	return viewFile(&f), nil
}

// checkFile says what is wrong with the names of a file.
func checkFile(f *data.File) error {
	if err := data.CheckName(f.Collection); err != nil {
		return invalid("collection: %v", err)
	}
	if f.Name == "" || len(f.Name) > maxFileName || !utf8.ValidString(f.Name) {
		return invalid("name: has 1 to %d bytes of text", maxFileName)
	}
	for _, r := range f.Name {
		if unicode.IsControl(r) {
			return invalid("name: holds a control character")
		}
	}
	if f.ContentType == "" {
		f.ContentType = "application/octet-stream"
	}
	if _, _, err := mime.ParseMediaType(f.ContentType); err != nil || len(f.ContentType) > maxContentType {
		return invalid("content_type: is no media type such as image/png")
	}
	return nil
}

// forget removes a content that no file has any more. Where that fails the sweep does it.
func (c *call) forget(app, blob uuid.UUID) {
	if err := c.contents.Remove(app, blob); err != nil {
		c.log.Warn("cannot remove the content of a file", "app", app, "blob", blob, "error", err)
	}
}

func (c *call) filesHead(ctx context.Context, args []byte) (any, error) {
	var in filePlace
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	var out struct {
		File *file `json:"file,omitempty"`
	}
	f, err := c.file(ctx, in)
	if f != nil {
		view := viewFile(f)
		out.File = &view
	}
	return out, err
}

// file returns the file of a place, nil where there is none.
func (c *call) file(ctx context.Context, in filePlace) (*data.File, error) {
	id, err := c.filePlace(in)
	if err != nil {
		return nil, err
	}
	f, err := c.files.Get(ctx, c.run.Entry.App, in.Collection, id)
	switch {
	case errors.Is(err, data.ErrNone):
		return nil, nil
	case err != nil:
		return nil, c.dataRefusal(ctx, err)
	}
	return &f, nil
}

// filesRead returns one block of a file, checked.
func (c *call) filesRead(ctx context.Context, args []byte) (any, error) {
	var in struct {
		filePlace
		Block int `json:"block"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	var out struct {
		Data    []byte    `json:"data_base64"`
		More    bool      `json:"more"`
		Content uuid.UUID `json:"content"` // changes with the content
	}
	f, err := c.read(ctx, in.filePlace, func(f *data.File) (err error) {
		out.Content, out.More = f.Blob, int64(in.Block) < (f.Size-1)/files.Block
		if f.Size == 0 && in.Block == 0 {
			return nil
		}
		out.Data, err = c.contents.Read(f.App, &f.Content, in.Block)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return nil, fault.New(fault.NotFound, fault.Script, "there is no such file in %q", in.Collection)
	}
	return out, nil
}

func (c *call) filesDelete(ctx context.Context, args []byte) (any, error) {
	var in filePlace
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	id, err := c.filePlace(in)
	if err != nil {
		return nil, err
	}
	var out struct {
		Deleted bool `json:"deleted"`
	}
	var before uuid.UUID
	none := false
	err = c.change(ctx, outbox.KindFiles, in.Collection, 0, func(owner int64, caused data.Caused) (entries []*outbox.Entry, err error) {
		before, entries, err = c.files.Delete(ctx, owner, c.run.Entry.App, in.Collection, id, caused)
		if none = errors.Is(err, data.ErrNone); none {
			err = nil
		}
		return entries, err
	})
	if err != nil || none {
		return out, err
	}
	c.forget(c.run.Entry.App, before)
	out.Deleted = true
	return out, nil
}

func (c *call) filesList(ctx context.Context, args []byte) (any, error) {
	in := struct {
		Collection string `json:"collection"`
		Limit      int    `json:"limit"`
		Cursor     string `json:"cursor"`
	}{Limit: defaultListed}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := data.CheckName(in.Collection); err != nil {
		return nil, invalid("collection: %v", err)
	}
	if in.Limit < 1 || in.Limit > maxListed {
		return nil, invalid("limit: must be from 1 to %d", maxListed)
	}
	list, next, err := c.files.List(ctx, c.run.Entry.App, in.Collection, in.Cursor, in.Limit)
	if err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	out := struct {
		Items      []file `json:"items"`
		NextCursor string `json:"next_cursor"`
	}{Items: make([]file, len(list)), NextCursor: next}
	for i := range list {
		out.Items[i] = viewFile(&list[i])
	}
	return out, nil
}

// fileRefusal says in a script's terms why a content was not read or written.
func (c *call) fileRefusal(err error) error {
	switch {
	case errors.Is(err, files.ErrGone):
		return fault.New(fault.NotFound, fault.Script, "there is no such part of a file, or it has changed meanwhile")
	case errors.Is(err, files.ErrRoom):
		return fault.New(fault.Limit, fault.Script, "the app is writing files of more than %d bytes at one time: finish some first", int64(files.MaxOpen))
	case errors.Is(err, files.ErrOffset):
		return invalid("offset: %v", err)
	case errors.Is(err, files.ErrCorrupt):
		return fault.New(fault.Internal, fault.Platform, "the file is not what was written: its disk has changed it")
	}
	c.log.Warn("content not reached", "execution_id", c.run.Entry.ID, "error", err)
	return fault.New(fault.Unavailable, fault.Platform, "the content of the file cannot be reached now")
}
