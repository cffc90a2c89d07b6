"""A mesh in a page that can be turned with the pointer: a canvas and a short script, without network access."""

from __future__ import annotations

import base64

import numpy as np

from sightline.report.colours import Colour
from sightline.report.page import esc
from sightline.structures.meshes import Mesh

_LARGEST = 2**16
"""Number of vertices that the two bytes of an index can number."""


def viewer(mesh: Mesh, colour: Colour, title: str) -> str:
    """HTML of a mesh that turns when it is dragged; coordinates are rounded to 1/30000 of the mesh's radius.

    Args:
        mesh: in the frame of the camera, with y down and z forwards, which is how it is first seen.
        colour: of its faces.
        title: plain text above it.
    """
    if len(mesh.vertices) >= _LARGEST:
        return f'<p class="none">{esc(title)}: the mesh has {len(mesh.vertices)} vertices, too many to show here.</p>'
    vertices = mesh.vertices.detach().double().cpu().numpy()
    centred = vertices - (vertices.min(0) + vertices.max(0)) / 2
    radius = max(float(np.linalg.norm(centred, axis=1).max()), 1e-9)
    points = (centred / radius * 30000).round().astype("<i2")
    return (
        f'<div class="turn"><small>{esc(title)}</small><canvas width="320" height="320" data-colour="{colour[0]},'
        f'{colour[1]},{colour[2]}" data-points="{_packed(points)}" '
        f'data-faces="{_packed(mesh.faces.cpu().numpy().astype("<u2"))}" style="width:100%;cursor:grab;'
        'touch-action:none" role="img"></canvas></div>'
    )


def viewers(shown: list[str]) -> str:
    """Viewers beside each other, with the script that draws them."""
    if not shown:
        return ""
    columns = f"display:grid;gap:.4rem;grid-template-columns:repeat({max(2, len(shown))},1fr)"
    return f'<div style="{columns}">{"".join(shown)}</div><script>{_SCRIPT}</script>'


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


_SCRIPT = """
(function(){
function bytes(text){const s=atob(text),a=new Uint8Array(s.length);for(let i=0;i<s.length;i++)a[i]=s.charCodeAt(i);
return a.buffer}
function start(canvas){
canvas.dataset.ready="1";
const p=new Int16Array(bytes(canvas.dataset.points)),f=new Uint16Array(bytes(canvas.dataset.faces));
const rgb=canvas.dataset.colour.split(",").map(Number),pen=canvas.getContext("2d"),n=p.length/3,m=f.length/3;
const q=new Float32Array(p.length),depth=new Float32Array(m),order=Array.from({length:m},(_,i)=>i);
let turn=0.5,tilt=0.35,held=null;
function draw(){
const w=canvas.width,c=Math.cos(turn),s=Math.sin(turn),d=Math.cos(tilt),e=Math.sin(tilt),k=w*0.46/30000;
for(let i=0;i<n;i++){const x=p[3*i],y=p[3*i+1],z=p[3*i+2],b=c*z-s*x;
q[3*i]=(c*x+s*z)*k;q[3*i+1]=(d*y-e*b)*k;q[3*i+2]=(e*y+d*b)*k}
for(let j=0;j<m;j++)depth[j]=q[3*f[3*j]+2]+q[3*f[3*j+1]+2]+q[3*f[3*j+2]+2];
order.sort((a,b)=>depth[b]-depth[a]);
pen.setTransform(1,0,0,1,0,0);pen.clearRect(0,0,w,w);pen.translate(w/2,w/2);pen.lineWidth=0.7;
for(const j of order){
const a=3*f[3*j],b=3*f[3*j+1],g=3*f[3*j+2];
const ux=q[b]-q[a],uy=q[b+1]-q[a+1],uz=q[b+2]-q[a+2],vx=q[g]-q[a],vy=q[g+1]-q[a+1],vz=q[g+2]-q[a+2];
const nx=uy*vz-uz*vy,ny=uz*vx-ux*vz,nz=ux*vy-uy*vx;
if(nz>0)continue;
const l=Math.hypot(nx,ny,nz)||1;
const lit=Math.min(1,0.3+0.7*Math.max(0,(-0.45*nx-0.7*ny-0.55*nz)/l)+0.12*Math.abs(nz/l));
pen.fillStyle=pen.strokeStyle="rgb("+rgb.map(v=>Math.round(v*lit)).join(",")+")";
pen.beginPath();pen.moveTo(q[a],q[a+1]);pen.lineTo(q[b],q[b+1]);pen.lineTo(q[g],q[g+1]);pen.closePath();
pen.fill();pen.stroke()}
}
canvas.addEventListener("pointerdown",e=>{held=[e.clientX,e.clientY];canvas.setPointerCapture(e.pointerId)});
canvas.addEventListener("pointermove",e=>{if(!held)return;turn-=(e.clientX-held[0])/90;
tilt=Math.max(-1.6,Math.min(1.6,tilt-(e.clientY-held[1])/90));held=[e.clientX,e.clientY];draw()});
canvas.addEventListener("pointerup",()=>{held=null});
draw()
}
document.querySelectorAll("canvas[data-faces]").forEach(c=>{if(!c.dataset.ready)start(c)})
})();
""".replace("\n", "")
