package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCheckHead(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n"
	for name, c := range map[string]struct {
		raw    string
		status int // 0: accepted
	}{
		"plain":                       {get + "\r\n", 0},
		"host with port":              {"GET /x?y HTTP/1.1\r\nHost: a.b:2379\r\n\r\n", 0},
		"host in brackets":            {"GET / HTTP/1.1\r\nHost: [::1]:2379\r\n\r\n", 0},
		"bytes above ASCII in target": {"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 0},
		"tab in value":                {get + "X: a\tb\r\n\r\n", 0},
		"length":                      {get + "Content-Length: 5\r\n\r\n", 0},
		"chunked":                     {get + "Transfer-Encoding: Chunked\r\n\r\n", 0},
		"absolute form":               {"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 0},
		"options star":                {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0},
		"1.0 without host":            {"GET / HTTP/1.0\r\n\r\n", 0},

		"many fields":                 {get + strings.Repeat("a:\r\n", maxFields-1) + "\r\n", 0},
		"too many fields":             {get + strings.Repeat("a:\r\n", maxFields) + "\r\n", 431},
		"many names in Connection":    {get + "Connection: " + names(maxNamed) + "\r\n\r\n", 0},
		"too many in Connection":      {get + "Connection: " + names(maxNamed+1) + "\r\n\r\n", 400},
		"both lengths":                {get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"repeated length":             {get + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
		"length list":                 {get + "Content-Length: 5, 5\r\n\r\n", 400},
		"length with sign":            {get + "Content-Length: +5\r\n\r\n", 400},
		"length too large":            {get + "Content-Length: 99999999999999999999\r\n\r\n", 400},
		"empty length":                {get + "Content-Length:\r\n\r\n", 400},
		"encoding gzip, chunked":      {get + "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
		"encoding identity":           {get + "Transfer-Encoding: identity\r\n\r\n", 400},
		"encoding with vertical tab":  {get + "Transfer-Encoding: \vchunked\r\n\r\n", 400},
		"repeated encoding":           {get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"encoding in 1.0":             {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"space before colon":          {get + "X : 1\r\n\r\n", 400},
		"tab before colon":            {get + "Content-Length\t: 1\r\n\r\n", 400},
		"folding":                     {get + "X: 1\r\n 2\r\n\r\n", 400},
		"space before first field":    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
		"bare line feed":              {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
		"bare line feed at the end":   {get + "\n", 400},
		"bare carriage return":        {get + "X: a\rb\r\n\r\n", 400},
		"null byte":                   {get + "X: a\x00b\r\n\r\n", 400},
		"delete byte":                 {get + "X: a\x7fb\r\n\r\n", 400},
		"no host":                     {"GET / HTTP/1.1\r\n\r\n", 400},
		"two hosts":                   {get + "Host: a\r\n\r\n", 400},
		"two hosts in 1.0":            {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		"empty host":                  {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		"host list":                   {"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400},
		"host with path":              {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		"host with user":              {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
		"host with bad port":          {"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400},
		"host bracket open":           {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
		"host after bracket":          {"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400},
		"empty name":                  {get + ": x\r\n\r\n", 400},
		"no colon":                    {get + "X\r\n\r\n", 400},
		"name not a token":            {get + "X(1): x\r\n\r\n", 400},
		"version 2.0":                 {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
		"version 1.2":                 {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
		"version lower case":          {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
		"no version":                  {"GET /\r\nHost: a\r\n\r\n", 400},
		"two spaces":                  {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"space in target":             {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"tab in request line":         {"GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"method not a token":          {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"target without slash":        {"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"target of another scheme":    {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"absolute form, bad host":     {"GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"absolute form, escaped host": {"GET http://%ab HTTP/1.0\r\n\r\n", 400},
		"get star":                    {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"connect":                     {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405},
	} {
		t.Run(name, func(t *testing.T) {
			var h requestHead
			no := h.read([]byte(c.raw))
			switch {
			case no == nil && c.status != 0:
				t.Errorf("accepted %q", c.raw)
			case no != nil && no.status != c.status:
				t.Errorf("%d %s, want %d", no.status, no.text, c.status)
			}
		})
	}
}

// names is a list of n names.
func names(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("x-%d", i))
	}
	return strings.Join(list, ", ")
}

func TestOriginForm(t *testing.T) {
	for target, want := range map[string]string{
		"/a%2Fb?c":            "/a%2Fb?c",
		"*":                   "*",
		"http://h":            "/",
		"HTTP://h:1/p?q":      "/p?q",
		"https://h?q":         "/?q",
		"http://h//evil/%2e/": "//evil/%2e/",
	} {
		if got, _, ok := originForm(target); !ok || got != want {
			t.Errorf("%s became %q, %v", target, got, ok)
		}
	}
}

func TestInboxHead(t *testing.T) {
	long := "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 20000) + "\r\n\r\n"
	for name, c := range map[string]struct {
		raw, head, rest string
		err             error
	}{
		"whole":                     {"A\r\nB\r\n\r\nrest", "A\r\nB\r\n\r\n", "rest", nil},
		"empty lines first":         {"\r\n\r\nA\r\n\r\nrest", "A\r\n\r\n", "rest", nil},
		"bare line feeds end it":    {"A\nB\n\nrest", "A\nB\n\n", "rest", nil},
		"longer than a buffer":      {long + "rest", long, "rest", nil},
		"too long":                  {strings.Repeat("x", headLimit+1), "", "", errHeadTooLong},
		"too long with an end":      {strings.Repeat("x", headLimit) + "\r\n\r\n", "", "", errHeadTooLong},
		"too many empty lines":      {strings.Repeat("\r\n", headLimit), "", "", errHeadTooLong},
		"end of stream in the head": {"A\r\nB\r\n", "", "", io.EOF},
	} {
		for kind, src := range map[string]io.Reader{
			"at once":      strings.NewReader(c.raw),
			"byte by byte": iotest.OneByteReader(strings.NewReader(c.raw)),
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				if kind == "byte by byte" && len(c.raw) > 30000 {
					src = iotest.HalfReader(strings.NewReader(c.raw))
				}
				var b inbox
				b.open(src)
				defer b.giveBack()
				head, err := b.head(headLimit)
				if !errors.Is(err, c.err) || string(head) != c.head {
					t.Fatalf("%.40q, %v", head, err)
				}
				if err != nil {
					return
				}
				if _, err := b.br.Discard(len(head)); err != nil {
					t.Fatal(err)
				}
				if rest, _ := io.ReadAll(b.br); string(rest) != c.rest {
					t.Errorf("rest %q", rest)
				}
			})
		}
	}
}

// What we make of a head that the raw check lets pass must pass it too and be one
// head with the same framing. Where a member's parser takes it, it sees the same.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /v3/kv/put HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\nX: y\r\n\r\n",
		"PUT /v2/keys/a HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
		"GET http://a/b HTTP/1.0\r\nConnection: keep-alive, x\r\nX: 1\r\nPragma: no-cache\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET http://%ab HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: a\r\nVia: 1.1 b\r\nVia:\r\nX-Forwarded-For: c , d\t\r\nTE: trailers\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b inbox
		b.open(bytes.NewReader(raw))
		defer b.giveBack()
		seen, err := b.head(headLimit)
		if err != nil {
			return
		}
		cl := &client{r: &Relay{}, c: noAddr{}}
		x := cl.newExchange()
		if x.head.read(seen) != nil {
			return
		}
		x.begin()
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		if err := x.writeRequest(w, endpointOf(t)); err != nil {
			t.Fatal(err)
		}
		_ = w.Flush()
		var again requestHead
		if no := again.read(out.Bytes()); no != nil {
			t.Fatalf("%q became %q: %s", seen, out.Bytes(), no.text)
		}
		if again.chunked != x.head.chunked || again.length != x.head.length || again.method != x.head.method || again.target != x.head.target {
			t.Fatalf("%q became %q", seen, out.Bytes())
		}
		if end := headEnd(out.Bytes(), 0); end != out.Len() {
			t.Fatalf("%q became more than one head: %q", seen, out.Bytes())
		}
		parser := bufio.NewReader(&out)
		req, err := http.ReadRequest(parser)
		if err != nil {
			return
		}
		if chunked := len(req.TransferEncoding) > 0; chunked != x.head.chunked || !chunked && req.ContentLength != max(x.head.length, 0) {
			t.Fatalf("a member sees another body in %q", seen)
		}
		if req.Method != x.head.method || req.RequestURI != x.head.target || parser.Buffered() > 0 {
			t.Fatalf("a member sees another request in %q", seen)
		}
		if len(req.Header["Te"])+len(req.Header["Keep-Alive"])+len(req.Header["Proxy-Authorization"]) > 0 || len(req.Header["Via"]) != 1 {
			t.Fatalf("a member sees what was for us in %q", seen)
		}
	})
}

// What we take for the head of an answer must mean the same to a client of ours,
// and what it gets must be one head.
func FuzzAnswerHead(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Etcd-Index: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, Content-Length\r\n\r\n",
		"HTTP/1.0 299\r\nConnection: x, keep-alive\r\nX: 1\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n",
	} {
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, modern bool) {
		var h answerHead
		end := headEnd(raw, 0)
		if end == 0 || h.read(raw[:end]) != nil {
			return
		}
		cl := &client{r: &Relay{}, c: noAddr{}}
		x := cl.newExchange()
		if x.head.method = http.MethodGet; !modern {
			x.head.minor = 0
		}
		a := &attempt{x: x, head: h}
		a.in.open(bytes.NewReader(raw))
		if _, err := a.in.head(headLimit); err != nil { // it skips empty lines
			return
		}
		var out bytes.Buffer
		cl.out = bufio.NewWriter(&out)
		x.writeAnswer(cl.out, &a.head)
		put(cl.out, "\r\n")
		_ = cl.out.Flush()
		if end := headEnd(out.Bytes(), 0); end != out.Len() {
			t.Fatalf("%q became more than one head: %q", raw, out.Bytes())
		}
		var again answerHead
		if err := again.read(out.Bytes()); err != nil || again.status != h.status || again.length >= 0 || again.chunked {
			t.Fatalf("%q became %q: %v", raw, out.Bytes(), err)
		}
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: http.MethodGet})
		if err != nil {
			return
		}
		if bare := h.bare(http.MethodGet); !bare && h.final() && res.ContentLength != h.length || res.StatusCode != h.status {
			t.Fatalf("the parser sees another answer in %q: %d", raw, res.ContentLength)
		}
	})
}
