package yaegi

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// What packages and their files are called in the interpreter. Names of ours, as it makes something of those that it sees: it
// leaves out files whose names end in a system or a test, and takes "app/app" for "app".
const (
	packagePrefix = "picpkg"
	filePrefix    = "f"
)

// files is where the interpreter finds packages beyond the tables: those of a script, wherever it looks, and nothing else.
type files []*pkg

// find returns what a path leads to: a package, or one of its files as well.
func (all files) find(name string) (p *pkg, f *file, err error) {
	dir, base := name, ""
	if strings.HasSuffix(name, ".go") {
		dir, base = path.Split(name)
	}
	dir = path.Base(dir)
	for _, p := range all {
		if p.path != dir {
			continue
		}
		if base == "" {
			return p, nil, nil
		}
		for i, f := range p.files {
			if fileName(i) == base {
				return p, f, nil
			}
		}
	}
	return nil, nil, fs.ErrNotExist
}

func fileName(i int) string { return fmt.Sprintf("%s%03d.go", filePrefix, i) }

func (files) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadFile is part of fs.ReadFileFS.
func (all files) ReadFile(name string) ([]byte, error) {
	_, f, err := all.find(name)
	if err != nil || f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return []byte(f.text), nil
}

// ReadDir is part of fs.ReadDirFS.
func (all files) ReadDir(name string) (entries []fs.DirEntry, err error) {
	p, _, err := all.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	for i := range p.files {
		entries = append(entries, fs.FileInfoToDirEntry(info{name: fileName(i)}))
	}
	return entries, nil
}

// Stat is part of fs.StatFS.
func (all files) Stat(name string) (fs.FileInfo, error) {
	_, f, err := all.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return info{name: path.Base(name), dir: f == nil}, nil
}

// info is a file or folder of files.
type info struct {
	name string
	dir  bool
}

func (i info) Name() string     { return i.name }
func (info) Size() int64        { return 0 }
func (info) ModTime() time.Time { return time.Time{} }
func (info) Sys() any           { return nil }
func (i info) IsDir() bool      { return i.dir }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir
	}
	return 0
}
