package thumbnail

import (
	"bufio"
	"bytes"
	"fmt"
	"image"
	"image/color/palette"
	"image/gif"
	"io"

	"golang.org/x/image/draw"
)

// maxFrames bounds the frames of an animated thumbnail; longer ones stand still.
const maxFrames = 500

// countFrames counts the frames of a GIF without decoding them, up to one more than maxFrames. A broken one has those
// before the break.
func countFrames(src io.Reader) (int, error) {
	r := bufio.NewReader(src)
	var head [13]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, ErrNoImage
	}
	skip := func(n int) bool { got, err := r.Discard(n); return err == nil && got == n }
	table := func(flags byte) int {
		if flags&0x80 == 0 {
			return 0
		}
		return 3 << (1 + flags&7)
	}
	blocks := func() bool {
		for {
			n, err := r.ReadByte()
			if err != nil || !skip(int(n)) {
				return false
			}
			if n == 0 {
				return true
			}
		}
	}
	if !skip(table(head[10])) {
		return 0, ErrNoImage
	}
	frames := 0
	for frames <= maxFrames {
		kind, err := r.ReadByte()
		if err != nil || kind == 0x3b {
			break
		}
		ok := false
		switch kind {
		case 0x21: // an extension
			ok = skip(1) && blocks()
		case 0x2c: // a frame
			var frame [9]byte
			_, err := io.ReadFull(r, frame[:])
			ok = err == nil && skip(table(frame[8])+1) && blocks()
			frames++
		}
		if !ok {
			break
		}
	}
	if frames == 0 {
		return 0, ErrNoImage
	}
	if frames > maxFrames {
		frames = 1
	}
	return frames, nil
}

// makeAnimated scales each frame of a GIF, as it looks with those before it.
func makeAnimated(src io.Reader, s Spec) (Result, error) {
	in, err := gif.DecodeAll(src)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoImage, err)
	}
	bounds := image.Rect(0, 0, in.Config.Width, in.Config.Height)
	if bounds.Empty() {
		bounds = in.Image[0].Bounds()
	}
	size, part := s.target(bounds.Dx(), bounds.Dy())
	picture := image.NewNRGBA(bounds)
	out := &gif.GIF{LoopCount: in.LoopCount, Config: image.Config{Width: size.X, Height: size.Y}}
	for i, frame := range in.Image {
		var before *image.NRGBA
		if in.Disposal[i] == gif.DisposalPrevious {
			before = image.NewNRGBA(bounds)
			copy(before.Pix, picture.Pix)
		}
		draw.Draw(picture, frame.Bounds(), frame, frame.Bounds().Min, draw.Over)
		scaled := image.NewNRGBA(image.Rectangle{Max: size})
		draw.ApproxBiLinear.Scale(scaled, scaled.Bounds(), picture, part, draw.Src, nil)
		colors := frame.Palette
		if len(colors) == 0 {
			colors = palette.Plan9
		}
		small := image.NewPaletted(scaled.Bounds(), colors)
		draw.FloydSteinberg.Draw(small, small.Bounds(), scaled, image.Point{})
		out.Image = append(out.Image, small)
		out.Delay = append(out.Delay, in.Delay[i])
		out.Disposal = append(out.Disposal, gif.DisposalBackground)
		switch in.Disposal[i] {
		case gif.DisposalBackground:
			draw.Draw(picture, frame.Bounds(), image.Transparent, image.Point{}, draw.Src)
		case gif.DisposalPrevious:
			picture = before
		}
	}
	var buf bytes.Buffer
	if err := gif.EncodeAll(&buf, out); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoImage, err)
	}
	return Result{"image/gif", buf.Bytes()}, nil
}
