package picloud

import (
	"errors"
	"io"
	"sync"
	"time"
)

// Files is a collection of files. Collections belong to the app and need no making.
type Files struct {
	collection string
	runtime    Runtime
}

// Files names a collection of files.
func (c *Context) Files(collection string) *Files { return &Files{collection, c.runtime} }

// File is what is known of a file.
type File struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	ContentType string    `json:"content_type"`
	Size        int64     `json:"size"`   // bytes
	SHA256      string    `json:"sha256"` // of the content, in hexadecimal
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

type filePlace struct {
	Collection string `json:"collection"`
	ID         string `json:"id"`
}

type newFile struct {
	Collection  string `json:"collection"`
	ID          string `json:"id,omitempty"`
	Name        string `json:"name"`
	ContentType string `json:"content_type,omitempty"`
}

// filePart is how many bytes are written at a time: less than a call may have.
const filePart = 4 << 20

// Create makes a file of any size that memory allows; see Writer for more. Without a content type it is application/octet-stream.
func (f *Files) Create(name, contentType string, data []byte) (File, error) {
	return f.write("", name, contentType, data)
}

// Update gives a file that is there another name, media type and content.
func (f *Files) Update(id, name, contentType string, data []byte) (File, error) {
	if id == "" {
		return File{}, &Error{Code: InvalidArgument, Message: "the id of the file is missing"}
	}
	return f.write(id, name, contentType, data)
}

func (f *Files) write(id, name, contentType string, data []byte) (file File, err error) {
	if len(data) <= filePart {
		err = call(f.runtime, "files", "create", struct {
			newFile
			Data []byte `json:"data_base64"`
		}{newFile{f.collection, id, name, contentType}, data}, &file)
		return file, err
	}
	w := f.Writer(name, contentType)
	w.file.ID = id
	if _, err := w.Write(data); err != nil {
		return file, err
	}
	return w.Finish()
}

// Get returns the content of a file of up to 8 MiB, checked against what was written, and reports whether there is one.
func (f *Files) Get(id string) (data []byte, found bool, err error) {
	var answer struct {
		Data *[]byte `json:"data_base64"`
	}
	if err := call(f.runtime, "files", "get", filePlace{f.collection, id}, &answer); err != nil || answer.Data == nil {
		return nil, false, err
	}
	return *answer.Data, true, nil
}

// Head returns what is known of a file, and reports whether there is one.
func (f *Files) Head(id string) (file File, found bool, err error) {
	var answer struct{ File *File }
	if err := call(f.runtime, "files", "head", filePlace{f.collection, id}, &answer); err != nil || answer.File == nil {
		return file, false, err
	}
	return *answer.File, true, nil
}

// Delete deletes a file, and reports whether there was one.
func (f *Files) Delete(id string) (deleted bool, err error) {
	var answer struct{ Deleted bool }
	err = call(f.runtime, "files", "delete", filePlace{f.collection, id}, &answer)
	return answer.Deleted, err
}

// List returns files, the oldest first, and the cursor of the next page, empty where there is none. A Prefix is refused: they are not
// listed by name.
func (f *Files) List(opts ...*ListOptions) (files []File, next string, err error) {
	o, err := one(opts)
	if err != nil {
		return nil, "", err
	}
	if o.Prefix != "" {
		return nil, "", &Error{Code: InvalidArgument, Message: "Prefix is for keys: files are listed by when they were made"}
	}
	var answer struct {
		Items      []File `json:"items"`
		NextCursor string `json:"next_cursor"`
	}
	err = call(f.runtime, "files", "list", struct {
		Collection string `json:"collection"`
		Limit      int    `json:"limit,omitempty"`
		Cursor     string `json:"cursor,omitempty"`
	}{f.collection, o.Limit, o.Cursor}, &answer)
	return answer.Items, answer.NextCursor, err
}

// FileWriter writes a file part by part. It is there once Finish has returned. Its methods are safe for concurrent use.
type FileWriter struct {
	files *Files
	file  newFile

	mu     sync.Mutex
	upload string
	size   int64
}

// Writer begins a file of up to 1 GiB, of which only what Write is given is in memory.
func (f *Files) Writer(name, contentType string) *FileWriter {
	return &FileWriter{files: f, file: newFile{Collection: f.collection, Name: name, ContentType: contentType}}
}

// Write writes what is next.
func (w *FileWriter) Write(b []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.begin(); err != nil {
		return 0, err
	}
	for n < len(b) {
		part := b[n:min(n+filePart, len(b))]
		var answer struct{ Size int64 }
		err := call(w.files.runtime, "files", "write", struct {
			Collection string `json:"collection"`
			Upload     string `json:"upload"`
			Offset     int64  `json:"offset"`
			Data       []byte `json:"data_base64"`
		}{w.files.collection, w.upload, w.size, part}, &answer)
		if err != nil {
			return n, err
		}
		w.size = answer.Size
		n += len(part)
	}
	return n, nil
}

// begin begins the upload, where that has not been done. The mutex is held.
func (w *FileWriter) begin() error {
	if w.upload != "" {
		return nil
	}
	var answer struct{ Upload string }
	err := call(w.files.runtime, "files", "begin", struct {
		Collection string `json:"collection"`
	}{w.files.collection}, &answer)
	w.upload = answer.Upload
	return err
}

// Finish makes the file.
func (w *FileWriter) Finish() (file File, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.begin(); err != nil {
		return file, err
	}
	err = call(w.files.runtime, "files", "finish", struct {
		newFile
		Upload string `json:"upload"`
	}{w.file, w.upload}, &file)
	return file, err
}

// FileReader reads a file block by block, each checked against what was written. Its methods are safe for concurrent use.
type FileReader struct {
	files *Files
	id    string

	mu      sync.Mutex
	block   int
	content string
	buffer  []byte
	err     error
}

// Reader reads a file from its beginning. One that is not there is noticed at the first Read.
func (f *Files) Reader(id string) *FileReader { return &FileReader{files: f, id: id} }

// Read reads what is next, until io.EOF.
func (r *FileReader) Read(b []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buffer) == 0 && r.err == nil {
		r.next()
	}
	if len(r.buffer) == 0 {
		return 0, r.err
	}
	n = copy(b, r.buffer)
	r.buffer = r.buffer[n:]
	return n, nil
}

// next fetches a block; err is what follows behind it. The mutex is held.
func (r *FileReader) next() {
	var answer struct {
		Data    []byte `json:"data_base64"`
		More    bool   `json:"more"`
		Content string `json:"content"`
	}
	err := call(r.files.runtime, "files", "read", struct {
		filePlace
		Block int `json:"block"`
	}{filePlace{r.files.collection, r.id}, r.block}, &answer)
	if err == nil && r.block > 0 && answer.Content != r.content {
		err = errors.New("the file has been written meanwhile")
	}
	if r.err = err; err != nil {
		return
	}
	r.buffer, r.content = answer.Data, answer.Content
	if r.block++; !answer.More {
		r.err = io.EOF
	}
}
