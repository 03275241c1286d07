package main

import (
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Colours of the plot.
var (
	colourBurst  = color.NRGBA{R: 255, G: 214, B: 153, A: 255}
	colourP50    = color.NRGBA{R: 31, G: 119, B: 180, A: 255}
	colourP99    = color.NRGBA{R: 214, G: 39, B: 40, A: 255}
	colourAll    = color.NRGBA{R: 60, G: 60, B: 60, A: 255}
	colourBound  = color.NRGBA{R: 120, G: 120, B: 120, A: 255}
	plotFrom, to = 1.0, 30000.0 // ms
)

// writePlot draws one panel a run: the latencies of what was due in each second,
// the last delivery of each message to all, and the bursts.
func writePlot(file string, results []*result) error {
	const width, height = 26 * vg.Centimeter, 9 * vg.Centimeter
	canvas := vgimg.New(width, height*vg.Length(len(results)))
	tiles := draw.Tiles{Rows: len(results), Cols: 1, PadTop: vg.Points(4), PadBottom: vg.Points(4), PadRight: vg.Points(8), PadY: vg.Points(8)}
	for i, r := range results {
		p, err := r.panel()
		if err != nil {
			return fmt.Errorf("plot the run with %s: %w", r.name, err)
		}
		p.Draw(tiles.At(draw.New(canvas), 0, i))
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

func (r *result) panel() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s, %d connections: send to seen", r.title(), r.devices)
	p.X.Label.Text, p.Y.Label.Text = "seconds of the run", "ms"
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, r.seconds, plotFrom, to
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.ThumbnailWidth, p.Legend.Padding = true, vg.Points(20), vg.Points(3)
	for at := float64(burstAt); at < r.seconds; at += 60 {
		end := min(at+r.options.burst.Seconds(), r.seconds)
		band, err := plotter.NewPolygon(plotter.XYs{{X: at, Y: plotFrom}, {X: end, Y: plotFrom}, {X: end, Y: to}, {X: at, Y: to}})
		if err != nil {
			return nil, err
		}
		band.Color, band.LineStyle.Width = colourBurst, 0
		p.Add(band)
		if at == burstAt {
			p.Legend.Add(fmt.Sprintf("burst of %.0f/s", r.options.peak), band)
		}
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)
	var p50, p99 plotter.XYs
	for i, s := range r.series {
		if s.deliveries > 0 {
			p50 = append(p50, plotter.XY{X: float64(i) + .5, Y: within(s.p50)})
			p99 = append(p99, plotter.XY{X: float64(i) + .5, Y: within(s.p99)})
		}
	}
	bound := plotter.XYs{{X: 0, Y: latencyBound(r)}, {X: r.seconds, Y: latencyBound(r)}}
	for _, l := range []struct {
		name   string
		points plotter.XYs
		colour color.Color
		dashes []vg.Length
	}{
		{"p50 of each second", p50, colourP50, nil},
		{"p99 of each second", p99, colourP99, nil},
		{"bound of the run's p99", bound, colourBound, []vg.Length{vg.Points(4), vg.Points(3)}},
	} {
		if len(l.points) == 0 {
			continue
		}
		drawn, err := plotter.NewLine(l.points)
		if err != nil {
			return nil, err
		}
		drawn.Color, drawn.Dashes = l.colour, l.dashes
		p.Add(drawn)
		p.Legend.Add(l.name, drawn)
	}
	return p, r.addToAll(p)
}

// addToAll marks the last delivery of each message to all.
func (r *result) addToAll(p *plot.Plot) error {
	var points plotter.XYs
	for i, last := range r.lastToAll {
		points = append(points, plotter.XY{X: float64(allAt + 60*i), Y: within(last.Seconds() * 1000)})
	}
	if len(points) == 0 {
		return nil
	}
	marks, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	marks.Shape, marks.Color, marks.Radius = draw.TriangleGlyph{}, colourAll, vg.Points(4)
	p.Add(marks)
	p.Legend.Add("last delivery of a message to all", marks)
	return nil
}

// within keeps a value in the panel.
func within(v float64) float64 { return min(max(v, plotFrom), to) }
