package thumbnail

import (
	"image"
	"image/color"
)

// reduce makes each k × k pixels of a part of an image one pixel, their average. A rest of less than k at the edges goes.
func reduce(img image.Image, part image.Rectangle, k int) (image.Image, image.Rectangle) {
	size := image.Pt(part.Dx()/k, part.Dy()/k)
	dst := image.NewNRGBA(image.Rectangle{Max: size})
	switch img := img.(type) {
	case *image.YCbCr:
		reduceYCbCr(dst, img, part.Min, k)
	case image.RGBA64Image: // all others of this package's decoders
		reduceAny(dst, img, part.Min, k)
	default:
		return img, part
	}
	return dst, dst.Bounds()
}

func reduceYCbCr(dst *image.NRGBA, img *image.YCbCr, min image.Point, k int) {
	n := k * k
	for y := range dst.Rect.Dy() {
		for x := range dst.Rect.Dx() {
			var sum, cb, cr, samples int
			left, top := min.X+x*k, min.Y+y*k
			for j := range k {
				row := img.Y[img.YOffset(left, top+j):][:k]
				for _, v := range row {
					sum += int(v)
				}
			}
			// Chroma changes slowly: every second sample of it is enough.
			for j := 0; j < k; j += 2 {
				for i := 0; i < k; i += 2 {
					at := img.COffset(left+i, top+j)
					cb += int(img.Cb[at])
					cr += int(img.Cr[at])
					samples++
				}
			}
			r, g, b := color.YCbCrToRGB(uint8(sum/n), uint8(cb/samples), uint8(cr/samples))
			at := dst.PixOffset(x, y)
			dst.Pix[at], dst.Pix[at+1], dst.Pix[at+2], dst.Pix[at+3] = r, g, b, 255
		}
	}
}

// reduceAny averages premultiplied colours, so that a transparent pixel has no colour to give.
func reduceAny(dst *image.NRGBA, img image.RGBA64Image, min image.Point, k int) {
	n := uint64(k * k)
	for y := range dst.Rect.Dy() {
		for x := range dst.Rect.Dx() {
			var r, g, b, a uint64
			for j := range k {
				for i := range k {
					p := img.RGBA64At(min.X+x*k+i, min.Y+y*k+j)
					r, g, b, a = r+uint64(p.R), g+uint64(p.G), b+uint64(p.B), a+uint64(p.A)
				}
			}
			dst.Set(x, y, color.RGBA64{uint16(r / n), uint16(g / n), uint16(b / n), uint16(a / n)})
		}
	}
}
