package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// beginSnapshot opens a snapshot; its first query is the head of the stream.
func (c *pgConn) beginSnapshot() (head Position, err error) {
	if err := c.prepare(beginRead, selectHead, rollback); err != nil {
		return 0, err
	}
	p := c.pipe()
	p.call(beginRead, nil)
	p.call(selectHead, func(row *Row) error { head = Num[Position](row); return nil })
	_, err = p.run()
	return head, err
}

// PostgreSQL types of the parameters and columns of the store's statements.
const (
	oidBool    = 16
	oidBytea   = 17
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidText    = 25
	oidVarchar = 1043
	oidInts    = 1016
	oidTexts   = 1009
)

// pgConn is one connection to PostgreSQL with its prepared statements. Integers, text and
// bytes are sent in binary form.
type pgConn struct {
	pc       *pgconn.PgConn
	ctx      context.Context // of the current transaction
	prepared []*pgStmt       // by Stmt.id, then again for the "one" form
	a        args
	enc      []byte
	ends     []int
	params   [][]byte
	formats  []int16
	row      pgRow
}

type pgStmt struct {
	text string
	sd   *pgconn.StatementDescription
	// formats of the columns: binary for known types, else text
	formats []int16
}

func newPgConn(pc *pgconn.PgConn) *pgConn {
	return &pgConn{pc: pc, prepared: make([]*pgStmt, 2*len(registry))}
}

func (c *pgConn) scratch() *args {
	c.a.reset()
	return &c.a
}

// ensure prepares a statement on this connection at its first use.
func (c *pgConn) ensure(s *Stmt, one bool) (*pgStmt, error) {
	i, name, text := s.id, "s"+strconv.Itoa(s.id), s.pg
	if one {
		i, name, text = i+len(registry), "o"+strconv.Itoa(s.id), s.one()
	}
	if p := c.prepared[i]; p != nil {
		return p, nil
	}
	sd, err := c.pc.Prepare(c.ctx, name, text, nil)
	if isUnreachable(err) {
		return nil, unreachable(err)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", s.text, err)
	}
	p := &pgStmt{text: s.text, sd: sd, formats: make([]int16, len(sd.Fields))}
	for i, f := range sd.Fields {
		switch f.DataTypeOID {
		case oidBool, oidBytea, oidInt8, oidInt2, oidInt4, oidText, oidVarchar:
			p.formats[i] = 1
		}
	}
	c.prepared[i] = p
	return p, nil
}

func (c *pgConn) prepare(list ...*Stmt) error {
	for _, s := range list {
		if _, err := c.ensure(s, false); err != nil {
			return err
		}
	}
	return nil
}

// encode encodes the arguments of a statement into c.params and c.formats, which are
// valid until the next call.
func (c *pgConn) encode(p *pgStmt, w window) error {
	vals := w.vals[w.from:w.to]
	if len(vals) != len(p.sd.ParamOIDs) {
		return fmt.Errorf("%q: %d arguments for %d parameters", p.text, len(vals), len(p.sd.ParamOIDs))
	}
	c.enc, c.ends, c.formats, c.params = c.enc[:0], c.ends[:0], c.formats[:0], c.params[:0]
	for i := range vals {
		format, err := c.encodeOne(p.sd.ParamOIDs[i], &vals[i], w.args)
		if err != nil {
			return fmt.Errorf("%q: argument %d: %w", p.text, i+1, err)
		}
		c.formats = append(c.formats, format)
		c.ends = append(c.ends, len(c.enc))
	}
	from := 0
	for i, end := range c.ends {
		if vals[i].kind == kindNull {
			c.params = append(c.params, nil)
		} else {
			c.params = append(c.params, c.enc[from:end:end])
		}
		from = end
	}
	return nil
}

var errArgument = errors.New("value does not fit the type of the parameter")

// encodeOne appends one argument to c.enc: 1 in binary form, 0 as text.
func (c *pgConn) encodeOne(oid uint32, v *value, a *args) (format int16, err error) {
	n := v.i
	switch v.kind {
	case kindNull:
		return 1, nil
	case kindText:
		if oid != oidText && oid != oidVarchar {
			return 0, errArgument
		}
		c.enc = append(c.enc, escapeNUL(v.s)...)
		return 1, nil
	case kindBytes:
		if oid != oidBytea { // a TEXT takes only strings: SQLite would store bytes as a blob, which equals no text
			return 0, errArgument
		}
		c.enc = append(c.enc, v.s...)
		return 1, nil
	case kindInts:
		if oid != oidInts {
			return 0, errArgument
		}
		c.enc = appendArray(c.enc, oidInt8, len(a.ints[v.i]))
		for _, n := range a.ints[v.i] {
			c.enc = binary.BigEndian.AppendUint32(c.enc, 8)
			c.enc = binary.BigEndian.AppendUint64(c.enc, uint64(n))
		}
		return 1, nil
	case kindTexts:
		if oid != oidTexts {
			return 0, errArgument
		}
		c.enc = appendArray(c.enc, oidText, len(a.texts[v.i]))
		for _, s := range a.texts[v.i] {
			s = escapeNUL(s)
			c.enc = binary.BigEndian.AppendUint32(c.enc, uint32(len(s)))
			c.enc = append(c.enc, s...)
		}
		return 1, nil
	case kindSlot:
		n = int64(a.slots[v.i].slot)
	}
	switch oid {
	case oidInt8:
		c.enc = binary.BigEndian.AppendUint64(c.enc, uint64(n))
		return 1, nil
	case oidInt4, oidInt2:
		c.enc = strconv.AppendInt(c.enc, n, 10)
		return 0, nil
	case oidText, oidVarchar, oidBytea, oidBool:
		return 0, errArgument
	}
	c.enc = strconv.AppendInt(c.enc, n, 10)
	return 0, nil
}

func appendArray(dst []byte, oid uint32, n int) []byte {
	if n == 0 {
		dst = binary.BigEndian.AppendUint32(dst, 0) // dimensions
		dst = binary.BigEndian.AppendUint32(dst, 0)
		return binary.BigEndian.AppendUint32(dst, oid)
	}
	dst = binary.BigEndian.AppendUint32(dst, 1)
	dst = binary.BigEndian.AppendUint32(dst, 0) // no NULLs
	dst = binary.BigEndian.AppendUint32(dst, oid)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	return binary.BigEndian.AppendUint32(dst, 1) // lower bound
}

// PostgreSQL texts can't have a NUL, but a state key or a transaction ID may. It is
// stored as a noncharacter and '0', the noncharacter itself with '1'.
const nulEscape = "\uFDD0"

func escapeNUL(s string) string {
	if strings.IndexByte(s, 0) < 0 && !strings.Contains(s, nulEscape) {
		return s
	}
	return strings.NewReplacer(nulEscape, nulEscape+"1", "\x00", nulEscape+"0").Replace(s)
}

func unescapeNUL(s string) string {
	if !strings.Contains(s, nulEscape) {
		return s
	}
	return strings.NewReplacer(nulEscape+"1", nulEscape, nulEscape+"0", "\x00").Replace(s)
}

// exec runs a write outside of a pipeline.
func (c *pgConn) exec(s *Stmt, a *args) (int64, error) {
	p, err := c.ensure(s, false)
	if err != nil {
		return 0, err
	}
	if err := c.encode(p, a.all()); err != nil {
		return 0, err
	}
	tag, err := c.pc.ExecStatement(c.ctx, p.sd, c.params, c.formats, p.formats).Close()
	if err != nil {
		return 0, c.fault(s, err)
	}
	return tag.RowsAffected(), nil
}

func (c *pgConn) query(s *Stmt, a *args, f func(*Row) error) error {
	p, err := c.ensure(s, false)
	if err != nil {
		return err
	}
	if err := c.encode(p, a.all()); err != nil {
		return err
	}
	rr := c.pc.ExecStatement(c.ctx, p.sd, c.params, c.formats, p.formats)
	return c.read(s, p, rr, f)
}

// read calls f for each row of an answer and closes it.
func (c *pgConn) read(s *Stmt, p *pgStmt, rr *pgconn.ResultReader, f func(*Row) error) error {
	c.row.p = p
	row := Row{cols: &c.row}
	var ferr error
	for rr.NextRow() {
		if ferr != nil || f == nil {
			continue
		}
		c.row.values, row.next = rr.Values(), 0
		if ferr = f(&row); ferr == nil {
			ferr = row.err
		}
	}
	if _, err := rr.Close(); err != nil {
		return c.fault(s, err)
	}
	return ferr
}

// fault turns an error of PostgreSQL into one of the store.
func (c *pgConn) fault(s *Stmt, err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch pe.Code {
		case "23505":
			return fmt.Errorf("%w: %q: %w", ErrDuplicate, s.text, err)
		case "22012":
			return fmt.Errorf("%w: %q", errNotOne, s.text)
		}
	}
	if isUnreachable(err) {
		return unreachable(err) // the statement is not the cause
	}
	return fmt.Errorf("%q: %w", s.text, err)
}

// errNotOne says that a write did not touch exactly one row.
var errNotOne = errors.New("store: not exactly one row")

// pgRow reads the columns of an answer of PostgreSQL.
type pgRow struct {
	p      *pgStmt
	values [][]byte
}

func (r *pgRow) null(col int) bool { return r.values[col] == nil }

func (r *pgRow) int64(col int) (int64, error) {
	b := r.values[col]
	if b == nil {
		return 0, nil
	}
	if r.p.formats[col] == 0 { // numeric and the like, as text
		whole, _, _ := strings.Cut(string(b), ".")
		return strconv.ParseInt(whole, 10, 64)
	}
	switch len(b) {
	case 8:
		return int64(binary.BigEndian.Uint64(b)), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case 2:
		return int64(int16(binary.BigEndian.Uint16(b))), nil
	case 1:
		return int64(b[0]), nil
	}
	return 0, fmt.Errorf("%q: column %d is not an integer", r.p.text, col+1)
}

func (r *pgRow) text(col int) (string, error) { return unescapeNUL(string(r.values[col])), nil }

func (r *pgRow) bytes(col int) ([]byte, error) {
	b := r.values[col]
	if b == nil {
		return nil, nil
	}
	if oid := r.p.sd.Fields[col].DataTypeOID; oid == oidText || oid == oidVarchar {
		return []byte(unescapeNUL(string(b))), nil
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

// pipe sends statements without waiting for answers in between. Every statement must be
// prepared.
type pipe struct {
	c     *pgConn
	p     *pgconn.Pipeline
	items []pipeItem
	err   error
}

type pipeItem struct {
	s   *Stmt
	p   *pgStmt
	row func(*Row) error
}

func (c *pgConn) pipe() *pipe {
	return &pipe{c: c, p: c.pc.StartPipeline(c.ctx)}
}

func (p *pipe) send(s *Stmt, one bool, w window, row func(*Row) error) {
	i := s.id
	if one {
		i += len(registry)
	}
	ps := p.c.prepared[i]
	if err := p.c.encode(ps, w); err != nil && p.err == nil {
		p.err = err
		p.items = append(p.items, pipeItem{s, ps, row})
	}
	if p.err != nil {
		return
	}
	p.p.SendQueryStatement(ps.sd, p.c.params, p.c.formats, ps.formats)
	p.items = append(p.items, pipeItem{s, ps, row})
}

// call sends a statement with the given arguments.
func (p *pipe) call(s *Stmt, row func(*Row) error, list ...any) {
	a := p.c.scratch()
	a.add(s, list)
	p.send(s, false, a.all(), row)
}

// run sends all statements and reads the answers. On an error it returns the index of the
// failed statement, or −1 if the connection failed; the transaction is then aborted.
func (p *pipe) run() (failed int, err error) {
	if p.err != nil { // nothing was flushed yet: close discards the buffer with the connection
		return len(p.items) - 1, errors.Join(p.err, p.p.Close())
	}
	if err := p.p.Sync(); err != nil {
		return -1, p.c.lost(err)
	}
	failed = -1
	for i, it := range p.items {
		res, gerr := p.p.GetResults()
		if gerr == nil {
			rr, ok := res.(*pgconn.ResultReader)
			if !ok {
				gerr = fmt.Errorf("pipeline answered %T", res)
			} else {
				gerr = p.c.read(it.s, it.p, rr, it.row)
			}
		} else {
			gerr = p.c.fault(it.s, gerr)
		}
		if gerr != nil {
			failed, err = i, gerr
			break
		}
	}
	if cerr := p.p.Close(); cerr != nil && err == nil {
		failed, err = -1, p.c.lost(cerr)
	}
	if p.c.pc.IsClosed() {
		failed = -1
	}
	return failed, err
}

func (c *pgConn) lost(err error) error {
	return unreachable(err)
}
