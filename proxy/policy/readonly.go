package policy

import (
	"net/url"
	"path"
	"strings"
)

// ReadonlyGRPC is why a readonly proxy refuses a gRPC call; "" if it passes, or
// if it is Judged by its content. What is not known to be a read is refused (law 6
// of the design).
func ReadonlyGRPC(fullMethod string) (refusal string) {
	if kind := CallOf(fullMethod).kind(); kind == read || kind == judged {
		return ""
	}
	return fullMethod + " is refused: this endpoint is readonly"
}

// ReadonlyHTTP is why a readonly proxy refuses an HTTP request; "" if it passes.
// judge, if not empty, is the path by which JudgeJSON must then look into its
// body. rawPath is the target without the query, in origin form; override the
// value of X-HTTP-Method-Override, upgrade that of Upgrade, "" where there is
// none.
//
//	path, decoded as etcd does   method              passes
//	below a gateway's prefix     any                 where exactly that path is a read, or judged
//	  or like one (case, dots,
//	  slashes, unknown versions)
//	any other: v2 API, /health,  GET, HEAD, OPTIONS  yes
//	  /version, /metrics …       any other           no
//	any, with an upgrade         GET                 for /v3/watch by websocket alone
//	any, with a method override  any                 no
func ReadonlyHTTP(method, rawPath, override, upgrade string) (refusal, judge string) {
	const readonly = ": this endpoint is readonly"
	decoded, err := url.PathUnescape(rawPath)
	if err != nil {
		return "a path that is not valid is refused" + readonly, ""
	}
	gateway := likeGateway(decoded)
	switch {
	case override != "":
		return "X-HTTP-Method-Override is refused" + readonly, ""
	case upgrade != "" && (method != "GET" || !strings.EqualFold(upgrade, "websocket") || rawPath != "/v3/watch"):
		return "an upgrade of " + rawPath + " is refused" + readonly, ""
	case gateway && CallAt(decoded).kind() == judged:
		return "", decoded
	case gateway && CallAt(decoded).kind() != read:
		return method + " " + decoded + " is refused" + readonly, ""
	case gateway:
		return "", ""
	}
	switch method {
	case "GET", "HEAD", "OPTIONS":
		return "", ""
	}
	return method + " is refused" + readonly, ""
}

// likeGateway tells whether a path leads to the JSON gateway of any version, or
// would if somebody on the way cleaned it.
func likeGateway(decoded string) bool {
	clean := strings.ToLower(path.Clean("/" + strings.ReplaceAll(decoded, `\`, "/")))
	return strings.HasPrefix(clean, "/v3") || strings.HasPrefix(clean, "/v4")
}
