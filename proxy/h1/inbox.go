package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"etcdops/proxy/socket"
)

const (
	// headLimit is the longest head of an answer, in bytes.
	headLimit = 64 << 10
	// bufferSize is what a connection at work reads and writes through; longer
	// reads of bodies pass it by.
	bufferSize = 4 << 10
)

var errHeadTooLong = errors.New("head is too long")

var (
	smallReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}
	largeReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headLimit) }}
	writers      = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, bufferSize) }}
)

func borrowWriter(w io.Writer) *bufio.Writer {
	bw := writers.Get().(*bufio.Writer)
	bw.Reset(w)
	return bw
}

func returnWriter(bw *bufio.Writer) {
	bw.Reset(nil)
	writers.Put(bw)
}

// inbox is a borrowed buffered reader that shows a whole head before anybody
// parses it. The zero value holds none.
type inbox struct {
	br  *bufio.Reader
	src io.Reader
}

// open borrows a reader for src, if there is none yet.
func (b *inbox) open(src io.Reader) {
	if b.br == nil {
		b.br = smallReaders.Get().(*bufio.Reader)
		b.br.Reset(src)
		b.src = src
	}
}

// giveBack returns the reader, and drops what is in it.
func (b *inbox) giveBack() {
	if b.br == nil {
		return
	}
	b.br.Reset(nil)
	switch b.br.Size() {
	case headLimit:
		largeReaders.Put(b.br)
	case bufferSize:
		smallReaders.Put(b.br)
	}
	*b = inbox{}
}

func (b *inbox) buffered() int {
	if b.br == nil {
		return 0
	}
	return b.br.Buffered()
}

// head waits for a whole head and shows it without taking it. Empty lines
// before it are skipped (RFC 9112 section 2.2). The bytes are valid until the
// next read. At the end of the stream the error is io.EOF, even in mid-head.
func (b *inbox) head(limit int) ([]byte, error) {
	from, skipped := 0, 0
	for {
		have, _ := b.br.Peek(b.br.Buffered())
		if from == 0 && bytes.HasPrefix(have, []byte("\r\n")) {
			if skipped += 2; skipped > limit {
				return nil, errHeadTooLong
			}
			_, _ = b.br.Discard(2)
			continue
		}
		if end := headEnd(have, from); end > 0 && end <= limit {
			return have[:end], nil
		} else if end > limit || len(have) >= limit {
			return nil, errHeadTooLong
		}
		from = max(0, len(have)-3) // the empty line may have begun
		if len(have) == b.br.Size() {
			b.widen(limit)
		}
		if _, err := b.br.Peek(len(have) + 1); err != nil {
			return nil, err
		}
	}
}

// headEnd finds the end of the first empty line, however its lines end: what
// ends badly is for checkHead to refuse, not to wait for. Zero means none yet.
func headEnd(p []byte, from int) int {
	for {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch rest := p[from:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return from + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return from + 2
		}
	}
}

// widen moves on to a reader that takes the longest head.
func (b *inbox) widen(limit int) {
	have, _ := b.br.Peek(b.br.Buffered())
	var large *bufio.Reader
	if limit <= headLimit {
		large = largeReaders.Get().(*bufio.Reader)
	} else {
		large = bufio.NewReaderSize(nil, limit)
	}
	large.Reset(io.MultiReader(bytes.NewReader(bytes.Clone(have)), b.src))
	src := b.src
	b.giveBack()
	b.br, b.src = large, src
}

// source is what a client sends: what others read before us, then what came at
// the end of an idle wait, then the connection.
type source struct {
	c           net.Conn
	sock        *socket.Conn // c itself, where it is a bare socket
	first       []byte
	held        socket.Buffer
	one         [1]byte
	headTimeout time.Duration
	next        limit
}

// limit is what the next read of the connection does with its deadline, once.
// Most heads are there after the wait for them: then nothing needs to be done.
type limit uint8

const (
	limitAsIs    limit = iota // leaves it
	limitHead                 // sets it for a head: now and headTimeout
	limitNothing              // takes it away
)

// wait returns when there is something to read. A bare socket holds no buffer
// meanwhile; TLS has its own.
func (s *source) wait() error {
	if s.pending() {
		return nil
	}
	if s.sock != nil {
		_, err := s.sock.ReadBorrowed(&s.held)
		return err
	}
	n, err := s.c.Read(s.one[:])
	if n > 0 {
		s.first, err = s.one[:n], nil
	}
	return err
}

// pending says whether something was read from the connection already.
func (s *source) pending() bool { return len(s.first)+s.held.Len() > 0 }

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	switch {
	case len(s.first) > 0:
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	case s.held.Len() > 0:
		n := copy(p, s.held.Bytes())
		s.held.Consume(n)
		s.held.Return()
		return n, nil
	}
	if err := s.apply(); err != nil {
		return 0, err
	}
	return s.c.Read(p)
}

// apply does what next says.
func (s *source) apply() error {
	deadline := time.Time{}
	switch s.next {
	case limitAsIs:
		return nil
	case limitHead:
		deadline = time.Now().Add(s.headTimeout)
	}
	s.next = limitAsIs
	return s.c.SetReadDeadline(deadline)
}

func (s *source) drop() { s.held.Drop() }
