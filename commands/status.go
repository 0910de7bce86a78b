package commands

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"etcdops/proxy"
)

type statusOptions struct {
	DataDir string // "" where none was given
	Check   bool
	Output  string
}

func newProxyStatusCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what the running proxy does: whether it is ready, its connections, requests and refusals",
		Description: `The proxy's control socket is asked; what it tells is what /metrics of
--listen-metrics-urls tells. Nothing is asked of the cluster.

Examples:
  etcdops proxy status
  etcdops proxy status --data-dir /tmp/proxy.etcd -o json
  etcdops proxy status --check`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "`DIR` of the proxy, if several run here"},
			&cli.BoolFlag{Name: "check", Usage: "exit with 1 unless the proxy is ready"},
			outputFlag(),
		},
		Action: action{Run: func(ctx context.Context, c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return runProxyStatus(ctx, env, statusOptions{
				DataDir: c.String("data-dir"), Check: c.Bool("check"), Output: c.String(outputFlagName),
			})
		}}.Do,
	}
}

func runProxyStatus(ctx context.Context, env *Env, opts statusOptions) error {
	path, err := runningProxy(ctx, env, opts.DataDir, "etcdops proxy status")
	if err != nil {
		return err
	}
	client := proxy.ControlClient{Path: path}
	var answer proxy.StatusAndFigures
	if err := client.Get(ctx, proxy.FiguresPath, nil, &answer); err != nil {
		return controlFailure(opts.DataDir, err)
	}
	if err := env.printTables(opts.Output, statusTables(env, &answer), answer); err != nil {
		return err
	}
	if reasons := answer.Status.NotReady; opts.Check && len(reasons) > 0 {
		hint := "see the members with: etcdops proxy members" + forDataDir(opts.DataDir)
		for _, e := range answer.Status.Endpoints {
			if said := proxyTrustFlags.hint(e.Why); said != "" {
				hint = "member " + e.MemberName + ": " + said
				break
			}
		}
		return &Failure{Code: ExitFailed, Message: "check failed: not ready: " + oneLine(strings.Join(reasons, "; ")), Hint: hint}
	}
	return nil
}

// statusTables are the parts of a status, the most asked first.
func statusTables(env *Env, a *proxy.StatusAndFigures) []Table {
	return []Table{
		proxyTable(env, &a.Status), endpointTable(env, a.Status.Endpoints), connectionTable(&a.Figures),
		reasonTable("open", "OPEN REQUESTS", a.Figures.Open), requestTable(a.Figures.Requests),
		reasonTable("failed", "FAILED", []proxy.ReasonCount{{Reason: "without a member's whole answer", Count: a.Figures.Failed}}),
		reasonTable("retried", "RETRIED", a.Figures.Retries), reasonTable("refused", "REFUSED", a.Figures.Refusals),
		reasonTable("refreshed", "LIST REFRESHES", a.Figures.Refreshes), certificateTable(a.Figures.Certificates), tlsTable(env, a.Figures.TLSLoads),
	}
}

func proxyTable(env *Env, s *proxy.Status) Table {
	ready := env.Out.Good.Sprint("yes")
	if len(s.NotReady) > 0 {
		ready = env.Out.Bad.Sprint("no")
	}
	age := ""
	if s.ListAt != nil {
		age = time.Since(*s.ListAt).Round(time.Second).String()
	}
	return Table{
		Name:   "proxy",
		Header: []string{"PID", "MODE", "READY", "CLUSTER ID", "LIST AGE", "UP", "LISTENS ON", "WHY NOT READY"},
		Rows: [][]string{{
			strconv.Itoa(s.PID), s.Mode, ready, s.ClusterID, age, time.Since(s.Started).Round(time.Second).String(),
			strings.Join(s.ListenClientURLs, "\n"), oneLine(strings.Join(s.NotReady, "; ")),
		}},
	}
}

func endpointTable(env *Env, endpoints []proxy.Endpoint) Table {
	t := Table{Name: "endpoint", Header: []string{"ENDPOINT", "MEMBER", "USED", "HEALTHY", "WHY NOT"}}
	for _, e := range endpoints {
		healthy := env.Out.Good.Sprint("yes")
		if !e.Healthy {
			healthy = env.Out.Bad.Sprint("no")
		}
		t.Rows = append(t.Rows, []string{e.URL, e.MemberName, yesNo(e.Used && e.Healthy), healthy, oneLine(e.Why)})
	}
	return t
}

func connectionTable(f *proxy.Figures) Table {
	t := Table{Name: "connections", Header: []string{"CONNECTIONS", "PROTOCOL", "OPEN", "RECEIVED", "SENT"}}
	for i, c := range f.Connections {
		row := []string{"clients", c.Reason, strconv.FormatInt(c.Count, 10), "", ""}
		if i == 0 {
			row[3], row[4] = humanize.Bytes(uint64(f.Bytes.Received)), humanize.Bytes(uint64(f.Bytes.Sent))
		}
		t.Rows = append(t.Rows, row)
	}
	last := ""
	for _, c := range f.MemberConnections {
		row := []string{c.Member, c.Protocol, strconv.FormatInt(c.Count, 10), "", ""}
		for _, b := range f.MemberBytes {
			if b.Member == c.Member && c.Member != last {
				row[3], row[4] = humanize.Bytes(uint64(b.Received)), humanize.Bytes(uint64(b.Sent))
			}
		}
		last = c.Member
		t.Rows = append(t.Rows, row)
	}
	return t
}

func requestTable(requests []proxy.RequestCount) Table {
	t := Table{Name: "requests", Header: []string{"API", "METHOD", "RESULT", "MEMBER", "REQUESTS"}}
	for _, r := range requests {
		t.Rows = append(t.Rows, []string{r.API, r.Method, r.Result, r.Member, strconv.FormatInt(r.Count, 10)})
	}
	return t
}

// reasonTable leaves out what has not happened.
func reasonTable(name, header string, list []proxy.ReasonCount) Table {
	t := Table{Name: name, Header: []string{header, "COUNT"}}
	for _, r := range list {
		if r.Count != 0 {
			t.Rows = append(t.Rows, []string{r.Reason, strconv.FormatInt(r.Count, 10)})
		}
	}
	return t
}

func certificateTable(list []proxy.Certificate) Table {
	t := Table{Name: "certificate", Header: []string{"CERTIFICATE", "SUBJECT", "ENDS", "IN"}}
	for _, c := range list {
		left := time.Until(c.NotAfter)
		t.Rows = append(t.Rows, []string{c.Use, c.Subject, c.NotAfter.UTC().Format(time.RFC3339), fmt.Sprintf("%d days", int(left.Hours()/24))})
	}
	return t
}

// tlsTable shows the sides whose files are not the ones that are used.
func tlsTable(env *Env, loads []proxy.TLSLoad) Table {
	t := Table{Name: "tls", Header: []string{"TLS FILES", "USED", "LOADED", "WHY NOT THOSE OF NOW"}}
	for _, l := range loads {
		if l.Error != "" {
			t.Rows = append(t.Rows, []string{l.Use, env.Out.Bad.Sprint("old ones"), l.At.UTC().Format(time.RFC3339), oneLine(l.Error)})
		}
	}
	return t
}
