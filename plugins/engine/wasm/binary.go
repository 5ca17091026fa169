package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Sections of a module by their number, see "Binary Format" in the WebAssembly specification.
const (
	sectionCustom   = 0
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionMemory   = 5
	sectionGlobal   = 6
	sectionExport   = 7
	sectionStart    = 8
	sectionCode     = 10
)

// rank is the place of each section in a module, by number; zero: there is none of that number.
var rank = [14]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 13: 6, 6: 7, 7: 8, 8: 9, 9: 10, 12: 11, 10: 12, 11: 13}

var header = []byte("\x00asm\x01\x00\x00\x00")

// section is a part of a module.
type section struct {
	id   byte
	data []byte
}

// errCut says that something is longer than what is there.
var errCut = errors.New("it ends too early")

// reader reads a module's bytes. After an error all that it reads is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest = nil
}

func (r *reader) byte() byte {
	if b := r.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.fail(errCut)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// number reads an unsigned number of 32 bits.
func (r *reader) number() uint32 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || n > 5 || v > math.MaxUint32 {
		r.fail(errCut)
		return 0
	}
	r.rest = r.rest[n:]
	return uint32(v)
}

// skip passes over a number of any kind.
func (r *reader) skip() {
	for i := 0; r.err == nil && r.byte()&0x80 != 0; i++ {
		if i == 10 {
			r.fail(errors.New("a number in it is too long"))
		}
	}
}

func (r *reader) name() []byte { return r.take(int(r.number())) }

// limits reads the bounds of a memory or table.
func (r *reader) limits() (least, most uint32, bounded bool) {
	bounded = r.byte()&1 != 0
	if least = r.number(); bounded {
		most = r.number()
	}
	return least, most, bounded
}

func appendNumber(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

// split takes a module apart. Sections that mean nothing to its code, such as its debug information, are left out.
func split(module []byte) ([]section, error) {
	if !bytes.HasPrefix(module, header) {
		if bytes.HasPrefix(module, header[:4]) {
			return nil, errors.New("it is of another version of WebAssembly; components are not supported, modules are")
		}
		return nil, errors.New("it is no WebAssembly module")
	}
	r := reader{rest: module[len(header):]}
	var sections []section
	last := 0
	for len(r.rest) > 0 {
		s := section{id: r.byte()}
		s.data = r.take(int(r.number()))
		if s.id == sectionCustom {
			if in := (reader{rest: s.data}); string(in.name()) == "name" {
				sections = append(sections, s) // what traces are made of
			}
			continue
		}
		if int(s.id) >= len(rank) || rank[s.id] <= last {
			r.fail(fmt.Errorf("section %d is unknown or out of place", s.id))
			break
		}
		last = rank[s.id]
		sections = append(sections, s)
	}
	return sections, r.err
}

// join puts a module together.
func join(sections []section) []byte {
	size := len(header)
	for _, s := range sections {
		size += len(s.data) + 6
	}
	b := append(make([]byte, 0, size), header...)
	for _, s := range sections {
		b = append(appendNumber(append(b, s.id), uint32(len(s.data))), s.data...)
	}
	return b
}

// find returns the section of a number, making an empty list in its place if there is none.
func find(sections []section, id byte) ([]section, *section) {
	place := len(sections)
	for i, s := range sections {
		switch {
		case s.id == id:
			return sections, &sections[i]
		case s.id != sectionCustom && rank[s.id] > rank[id]:
			place = min(place, i)
		}
	}
	for place > 0 && sections[place-1].id == sectionCustom { // the names follow all that they name
		place--
	}
	sections = append(sections, section{})
	copy(sections[place+1:], sections[place:])
	sections[place] = section{id: id, data: []byte{0}}
	return sections, &sections[place]
}

// extend adds entries to a section that is a list, and returns how many it had.
func (s *section) extend(n uint32, entries []byte) (had uint32, err error) {
	r := reader{rest: s.data}
	had = r.number()
	s.data = append(append(appendNumber(nil, had+n), r.rest...), entries...)
	return had, r.err
}
